//! The report's page in a real browser, without a window: what is drawn, what overflows, what is printed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use banqiao_item::{Format, Language};
use serde_json::Value;
use tempfile::TempDir;

use crate::report::half_year;

/// Programs that are Chromium, by what distributions call it.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Measures the page that it stands in, and writes what it finds into the page's title.
const MEASURE: &str = r#"<script>
addEventListener("load", () => {
    const box = one => one.getBoundingClientRect();
    const visible = one => box(one).width > 0 && box(one).height > 0;
    const within = (inner, outer) => inner.left >= outer.left - 1 && inner.right <= outer.right + 1
        && inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
    const charts = [...document.querySelectorAll("svg")];
    const drawn = charts.flatMap(svg => [...svg.querySelectorAll("rect, text")].map(one => [one, svg]));
    const cells = [...document.querySelectorAll("th, td")];
    const labels = charts.flatMap(svg => {
        const texts = [...svg.querySelectorAll(".label, .key")].map(box);
        return texts.flatMap((one, at) => texts.slice(at + 1).filter(other =>
            one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 1 && other.top < one.bottom - 1));
    });
    document.title = JSON.stringify({
        width: innerWidth,
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        charts: charts.filter(visible).length,
        bars: document.querySelectorAll("svg rect[height]").length,
        outside: drawn.filter(([one, svg]) => !within(box(one), box(svg))).map(([one]) => one.outerHTML),
        overlapping: labels.length,
        spilling: cells.filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.outerHTML),
        cut: [...document.querySelectorAll(".wide")].filter(one => one.scrollWidth > one.clientWidth + 1).length,
        tables: [...document.querySelectorAll("table")].filter(visible).length,
    });
});
</script>"#;

fn browser() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<_> = env::split_paths(&path).collect();
    let named = |name: &str| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|at| at.exists())
    };
    PROGRAMS.iter().find_map(|name| named(name))
}

/// What the browser writes: to standard output, and what it complains about.
fn browse(browser: &Path, folder: &Path, arguments: &[&str], page: &Path) -> (String, String) {
    let output = Command::new(browser)
        .args([
            "--headless=new",
            // The page is our own, and containers have no sandbox.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--enable-logging=stderr",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .env("HOME", folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}", told.1);
    told
}

#[test]
fn the_page_is_drawn_whole_and_printed_on_a4_in_both_languages() {
    let browser = browser().expect("a Chromium on the path: tests/run installs it");
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    for (language, name) in [(Language::Chinese, "zh"), (Language::English, "en")] {
        let report = half_year();
        let html = report.render(Format::Html, language).unwrap();
        let page = at.join(format!("{name}.html"));
        fs::write(&page, &html).unwrap();
        let measured = at.join(format!("{name}-measured.html"));
        fs::write(
            &measured,
            html.replace("</body>", &format!("{MEASURE}</body>")),
        )
        .unwrap();
        // A desk's screen, and a telephone.
        for size in ["--window-size=1280,900", "--window-size=500,900"] {
            let told = browse(&browser, at, &[size, "--dump-dom"], &measured);
            let whole = size.contains("1280");
            is_drawn(&told, &html, whole);
        }
        let pdf = at.join(format!("{name}.pdf"));
        let print = format!("--print-to-pdf={}", pdf.display());
        browse(&browser, at, &["--no-pdf-header-footer", &print], &page);
        is_printed(&fs::read(&pdf).unwrap());
        if let Some(keep) = env::var_os("BANQIAO_KEEP_PAGES") {
            let picture = Path::new(&keep).join(format!("{name}.png"));
            let picture = format!("--screenshot={}", picture.display());
            browse(&browser, at, &["--window-size=1120,2600", &picture], &page);
            fs::copy(&pdf, Path::new(&keep).join(format!("{name}.pdf"))).unwrap();
        }
    }
}

fn is_drawn((document, complaints): &(String, String), html: &str, whole: bool) {
    let console: Vec<_> = complaints
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    assert!(console.is_empty(), "{console:?}");
    let (_, title) = document.split_once("<title>").unwrap();
    let (title, _) = title.split_once("</title>").unwrap();
    let seen: Value = serde_json::from_str(
        &title
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&"),
    )
    .unwrap_or_else(|error| panic!("{error}: {title}"));
    assert_eq!(
        (&seen["charts"], &seen["tables"]),
        (&4.into(), &7.into()),
        "{seen}"
    );
    assert_eq!(seen["bars"], html.matches("<rect").count(), "{seen}");
    assert_eq!(
        seen["outside"],
        Value::Array(Vec::new()),
        "charts keep within their frames: {seen}"
    );
    assert_eq!(seen["overlapping"], 0, "labels can be read: {seen}");
    assert_eq!(
        seen["overflow"], 0,
        "nothing is cut off at {}: {seen}",
        seen["width"]
    );
    if whole {
        // As wide as on paper.
        assert_eq!(seen["cut"], 0, "tables fit: {seen}");
        let none = Value::Array(Vec::new());
        assert_eq!(
            seen["spilling"], none,
            "numbers keep within their cells: {seen}"
        );
    }
}

/// Pages of A4, more than one and not many.
fn is_printed(pdf: &[u8]) {
    assert!(pdf.starts_with(b"%PDF-"));
    let text = String::from_utf8_lossy(pdf);
    let pages = text.matches("/Type /Page\n").count();
    assert!((2..=12).contains(&pages), "{pages} pages");
    // 297 by 210 mm in points, to a point.
    let boxes: Vec<Vec<f64>> = text
        .split("/MediaBox [")
        .skip(1)
        .filter_map(|rest| rest.split_once(']'))
        .map(|(numbers, _)| {
            numbers
                .split_whitespace()
                .map(|one| one.parse().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(boxes.len(), pages);
    for media in boxes {
        assert!(
            (media[2] - 842.0).abs() < 1.5 && (media[3] - 595.0).abs() < 1.5,
            "{media:?}"
        );
    }
}
