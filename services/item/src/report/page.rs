//! The page: one file, for screens and for A4, well-formed as XML, too.

use std::fmt::Write;

use super::{
    Language, Report, Sums,
    chart::{Series, Unit, bars, columns},
    city_name, words,
};
use crate::figures::Figures;

const STYLE: &str = "@page{size:A4 landscape;margin:12mm 14mm}\
    *{box-sizing:border-box}\
    body{font:10.5pt/1.45 \"Noto Sans CJK SC\",\"Source Han Sans SC\",\"Microsoft YaHei\",\"PingFang SC\",sans-serif;color:#111;\
    max-width:277mm;margin:0 auto;padding:4mm}\
    h1{font-size:18pt;margin:0;text-align:center}\
    h2{font-size:12pt;margin:7mm 0 2mm;border-bottom:1px solid #1f4e79;color:#1f4e79;break-after:avoid}\
    p{margin:1mm 0}.sub{text-align:center;color:#444}.note{font-size:8.5pt;color:#444;margin-top:6mm}\
    .wide{overflow-x:auto}table{width:100%;border-collapse:collapse;font-size:8pt;font-variant-numeric:tabular-nums}\
    thead{display:table-header-group}tr{break-inside:avoid}\
    th,td{border:1px solid #999;padding:1mm .8mm;text-align:right}th{background:#eef3f8;font-weight:600;text-align:center}\
    th{min-width:9.5mm}td:first-child,th:first-child{text-align:left;min-width:26mm}tr.sum td{font-weight:600;background:#f6f6f6}\
    .charts{display:grid;grid-template-columns:1fr 1fr;gap:0 8mm}@media screen and (max-width:760px){.charts{display:block}}\
    figure{margin:4mm 0;break-inside:avoid}figcaption{font-weight:600;margin-bottom:1mm}svg{width:100%;height:auto}\
    .grid{stroke:#ddd;stroke-width:1}.scale{font-size:10px;text-anchor:end;fill:#333}\
    .label{font-size:10px;text-anchor:middle;fill:#333}.key{font-size:10px;fill:#333}\
    @media print{body{max-width:none;padding:0}.wide{overflow:visible}rect,th,tr.sum td{-webkit-print-color-adjust:exact;print-color-adjust:exact}}";

/// Text for HTML and XML.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character => escaped.push(character),
        }
    }
    escaped
}

/// The page of a report.
pub(super) fn page(report: &Report, language: Language) -> String {
    let title = words::TITLE.of(language);
    let code = match language {
        Language::Chinese => "zh-CN",
        Language::English => "en",
    };
    let mut page = format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"{code}\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    head(&mut page, report, language);
    page.push_str("<div class=\"charts\">\n");
    charts(&mut page, report, language);
    page.push_str("</div>\n");
    tables(&mut page, report, language);
    let _ = write!(
        page,
        "<p class=\"note\">{}</p>\n</body>\n</html>\n",
        escaped(words::NOTE.of(language))
    );
    page
}

fn head(page: &mut String, report: &Report, language: Language) {
    let cities = report.by_city();
    let cities: Vec<_> = cities
        .keys()
        .map(|code| city_name(code, language))
        .collect();
    let separator = match language {
        Language::Chinese => "、",
        Language::English => ", ",
    };
    let _ = write!(
        page,
        "<p class=\"sub\">{}</p>\n<p class=\"sub\">{}: {} – {} · {}: {} · {}: {}</p>\n",
        words::SUBTITLE.of(language),
        words::PERIOD.of(language),
        report.months.first(),
        report.months.last(),
        words::CITIES.of(language),
        escaped(&cities.join(separator)),
        words::MADE.of(language),
        report.made_on
    );
}

fn charts(page: &mut String, report: &Report, language: Language) {
    let months = report.by_month();
    let labels: Vec<_> = months.keys().map(String::as_str).collect();
    let of = |name, value: fn(&Figures) -> Option<i64>| Series {
        name,
        values: months.values().map(value).collect(),
    };
    let submitted = words::figure("submitted", language);
    let concluded = words::figure("concluded", language);
    let title = words::CHART_MONTHS.of(language);
    let series = [
        of(submitted, |figures| Some(figures.submitted)),
        of(concluded, |figures| Some(figures.concluded)),
    ];
    figure(page, title, &columns(title, &labels, &series, Unit::Count));
    let title = words::CHART_TIME.of(language);
    let share = words::ON_TIME_SHARE.of(language);
    let series = [of(share, Figures::on_time_share)];
    figure(
        page,
        title,
        &columns(title, &labels, &series, Unit::Hundredths),
    );

    let mut domains: Vec<_> = report.by_domain().into_iter().collect();
    domains.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.submitted));
    let labels: Vec<_> = (domains.iter())
        .map(|(key, _)| words::domain(key, language))
        .collect();
    let values: Vec<_> = domains
        .iter()
        .map(|(_, figures)| figures.submitted)
        .collect();
    let title = words::CHART_DOMAINS.of(language);
    figure(page, title, &bars(title, &labels, &values, false));

    let labels = words::LEVELS.each_ref().map(|level| level.of(language));
    let title = words::CHART_RATINGS.of(language);
    let values = report.total().ratings;
    figure(page, title, &bars(title, &labels, &values, true));
}

fn figure(page: &mut String, title: &str, svg: &str) {
    let title = escaped(title);
    let _ = writeln!(
        page,
        "<figure><figcaption>{title}</figcaption>{svg}</figure>"
    );
}

/// Figures that stand in every table; the rest is in JSON and CSV.
const COLUMNS: [&str; 8] = [
    "submitted",
    "received",
    "accepted",
    "not_accepted",
    "granted",
    "refused",
    "concluded",
    "corrections",
];

fn tables(page: &mut String, report: &Report, language: Language) {
    let mut first = vec![(words::TOTAL.of(language).to_owned(), report.total())];
    first.push((words::ACROSS.of(language).to_owned(), report.across()));
    first.push((words::TASKS.of(language).to_owned(), report.tasks()));
    table(page, words::TOTAL.of(language), &first, None, language);
    let total = report.total();
    let named = |sums: Sums, name: &dyn Fn(&str) -> String| -> Vec<(String, Figures)> {
        sums.into_iter()
            .map(|(key, figures)| (name(&key), figures))
            .collect()
    };
    let item = |key: &str| match report.items.get(key) {
        Some(item) => format!("{key} {}", item.name_in(language)),
        None => key.to_owned(),
    };
    let city = |key: &str| city_name(key, language);
    let domain = |key: &str| words::domain(key, language).to_owned();
    let mode = |key: &str| words::mode(key, language).to_owned();
    for (title, rows) in [
        (
            &words::BY_MONTH,
            named(report.by_month(), &ToString::to_string),
        ),
        (&words::BY_CITY, named(report.by_city(), &city)),
        (&words::BY_APPLIED, named(report.by_applied_city(), &city)),
        (&words::BY_MODE, named(report.by_mode(), &mode)),
        (&words::BY_DOMAIN, named(report.by_domain(), &domain)),
        (&words::BY_ITEM, named(report.by_item(), &item)),
    ] {
        table(page, title.of(language), &rows, Some(&total), language);
    }
}

fn table(
    page: &mut String,
    title: &str,
    rows: &[(String, Figures)],
    total: Option<&Figures>,
    language: Language,
) {
    let _ = write!(
        page,
        "<h2>{}</h2>\n<div class=\"wide\"><table>\n<thead><tr><th></th>",
        escaped(title)
    );
    let derived = [
        words::ON_TIME_SHARE.of(language),
        words::AVERAGE.of(language),
        words::RATINGS.of(language),
        words::SATISFIED_SHARE.of(language),
    ];
    let names = COLUMNS.map(|name| words::figure(name, language));
    let warnings = ["yellow", "red"].map(|name| words::figure(name, language));
    for name in names.iter().chain(&derived).chain(&warnings) {
        let _ = write!(page, "<th>{name}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (name, figures) in rows {
        row(page, "", name, figures);
    }
    if let Some(total) = total {
        row(page, " class=\"sum\"", words::TOTAL.of(language), total);
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn row(page: &mut String, class: &str, name: &str, figures: &Figures) {
    let _ = write!(page, "<tr{class}><td>{}</td>", escaped(name));
    let counts = figures.counts();
    let count = |name: &str| {
        let known = counts.iter().find(|(key, _)| *key == name);
        known.map_or(0, |(_, count)| *count)
    };
    for name in COLUMNS {
        let _ = write!(page, "<td>{}</td>", count(name));
    }
    let ratings: i64 = figures.ratings.iter().sum();
    let _ = writeln!(
        page,
        "<td>{}</td><td>{}</td><td>{ratings}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        percent(figures.on_time_share()),
        days(figures.average_workdays()),
        percent(figures.satisfied_share()),
        figures.yellow,
        figures.red
    );
}

/// Hundredths of a percent with one decimal.
fn percent(share: Option<i64>) -> String {
    share.map_or_else(
        || "–".to_owned(),
        |share| format!("{}.{}%", (share + 5) / 100, (share + 5) % 100 / 10),
    )
}

/// Hundredths of a day with two decimals.
fn days(hundredths: Option<i64>) -> String {
    hundredths.map_or_else(
        || "–".to_owned(),
        |days| format!("{}.{:02}", days / 100, days % 100),
    )
}
