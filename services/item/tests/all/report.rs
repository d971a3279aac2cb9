//! The report: its numbers, its page, and reports of several cities.

use banqiao_item::{Catalogue, FigureRow, Figures, Format, Language, Months, Report};
use jiff::civil::date;
use serde_json::Value;

fn row(city: &str, applied: &str, month: &str, item: &str, cases: i64) -> FigureRow {
    FigureRow {
        city: city.into(),
        month: month.into(),
        applied_city: applied.into(),
        item: item.into(),
        mode: "PROXY_COLLECTION".into(),
        tasks: false,
        figures: Figures {
            submitted: cases,
            received: cases,
            accepted: cases - 1,
            not_accepted: 1,
            concluded: cases - 2,
            on_time: cases - 3,
            late: 1,
            workdays: 4 * (cases - 2),
            timed: cases - 2,
            corrections: 2,
            ratings: [cases - 3, 1, 0, 1, 0],
            ..Figures::default()
        },
    }
}

fn of(rows: Vec<FigureRow>) -> Report {
    let months = Months::parse("2026-01", "2026-06").unwrap();
    Report::new(
        months,
        date(2026, 7, 3),
        rows,
        &Catalogue::load(&[]).unwrap(),
    )
}

fn qingdao() -> Report {
    let mut tasks = row("370200", "370600", "2026-02", "JD001", 5);
    tasks.tasks = true;
    of(vec![
        row("370200", "370200", "2026-01", "JD002", 10),
        row("370200", "371000", "2026-01", "JD017", 20),
        row("370200", "371000", "2026-05", "JD002", 40),
        tasks,
    ])
}

/// A half-year of five cities with every item of the catalogue in it, and numbers of five digits.
pub(crate) fn half_year() -> Report {
    let catalogue = Catalogue::load(&[]).unwrap();
    let items: Vec<_> = catalogue.items(date(2026, 7, 3)).cloned().collect();
    let cities = ["370200", "370600", "370700", "371000", "371100"];
    let rows = items.iter().enumerate().map(|(place, item)| {
        let month = format!("2026-0{}", 1 + place % 6);
        let city = cities[place % cities.len()];
        let applied = cities[place % 3];
        let cases = 20 + 137 * i64::try_from(place).unwrap();
        let mode = item.mode.as_str_name();
        FigureRow {
            mode: mode.trim_start_matches("HANDLING_MODE_").to_owned(),
            ..row(city, applied, &month, item.id.as_str(), cases)
        }
    });
    of(rows.collect())
}

fn json(report: &Report) -> Value {
    let text = report.render(Format::Json, Language::Chinese).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn sums_stand_by_city_domain_mode_month_and_item() {
    let report = json(&qingdao());
    assert_eq!(report["total"]["submitted"], 70);
    assert_eq!(report["across_cities"]["submitted"], 60);
    assert_eq!(report["tasks_of_joint_cases"]["submitted"], 5);
    assert_eq!(report["by_city"]["370200"]["concluded"], 64);
    assert_eq!(report["by_applied_city"]["371000"]["submitted"], 60);
    assert_eq!(report["by_domain"]["public_security"]["submitted"], 70);
    assert_eq!(report["by_month"]["2026-05"]["submitted"], 40);
    assert_eq!(report["by_month"]["2026-03"]["submitted"], 0);
    assert_eq!(report["by_item"]["JD002"]["submitted"], 50);
    assert_eq!(report["items"]["JD002"]["name"], "普通护照异地申领");
    // 61 of 64 decisions, 4 days each, 64 of 67 ratings.
    assert_eq!(report["total"]["on_time_share_10000"], 9_531);
    assert_eq!(report["total"]["average_workdays_100"], 400);
    assert_eq!(report["total"]["satisfied_share_10000"], 9_552);
}

#[test]
fn reports_of_several_cities_become_one() {
    let yantai = of(vec![row("370600", "370200", "2026-06", "JD002", 30)]);
    let yantai = yantai.render(Format::Json, Language::Chinese).unwrap();
    let both = qingdao().with_json(&yantai).unwrap();
    let report = json(&both);
    assert_eq!(report["total"]["submitted"], 100);
    assert_eq!(report["cities"], serde_json::json!(["370200", "370600"]));
    let twice = both.with_json(&yantai).unwrap_err();
    assert!(twice.to_string().contains("370600"), "{twice}");
    for (broken, why) in [
        (
            yantai.replace("\"to\": \"2026-06\"", "\"to\": \"2026-05\""),
            "not the same months",
        ),
        (yantai.replace("report-1", "report-9"), "report-9"),
        ("{}".to_owned(), "no JSON report"),
    ] {
        let refused = qingdao().with_json(&broken).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

#[test]
fn the_csv_has_a_row_for_each_month_city_item_and_mode() {
    let file = qingdao().render(Format::Csv, Language::English).unwrap();
    let lines: Vec<Vec<_>> = file.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 5);
    let column = |name: &str| lines[0].iter().position(|head| *head == name).unwrap();
    assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    let submitted: i64 = (lines[1..].iter())
        .map(|line| line[column("submitted")].parse::<i64>().unwrap())
        .sum();
    assert_eq!(submitted, 75);
    assert_eq!(lines[4][column("tasks of joint cases")], "yes");
    let chinese = qingdao().render(Format::Csv, Language::Chinese).unwrap();
    assert!(
        chinese
            .starts_with("月份,办理城市,申请城市,事项编号,事项,办理方式,联办任务,申请,收件,受理")
    );
}

/// Every element closes, in order, and text holds nothing that it must not: what an XML parser would ask.
fn is_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        assert!(!text.contains('>'), "{part}");
        for entity in text.split('&').skip(1).chain(tag.split('&').skip(1)) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
            assert!(
                known.iter().any(|known| entity.starts_with(known)),
                "{part}"
            );
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{part}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}

/// What the bars say: label, name and value.
fn bars(page: &str) -> Vec<Vec<&str>> {
    let titles = page.split("<title>").skip(2);
    let titles = titles.map(|rest| rest.split_once("</title>").unwrap().0);
    titles.map(|title| title.split(" · ").collect()).collect()
}

#[test]
fn the_page_is_well_formed_stands_alone_and_its_charts_show_the_figures() {
    let report = qingdao();
    let figures = json(&report);
    for (language, submitted, very) in [
        (Language::Chinese, "申请", "非常满意"),
        (Language::English, "submitted", "very satisfied"),
    ] {
        let page = report.render(Format::Html, language).unwrap();
        is_well_formed(&page);
        let elsewhere = page.replace("http://www.w3.org/", "");
        for foreign in [
            "<script", "http:", "https:", "url(", "<img", "<link", "@import",
        ] {
            assert!(!elsewhere.contains(foreign), "{foreign}");
        }
        assert!(page.contains("@page{size:A4"));
        let bars = bars(&page);
        for month in ["2026-01", "2026-03", "2026-05"] {
            let value = figures["by_month"][month]["submitted"].to_string();
            let bar = [month, submitted, value.as_str()];
            assert!(bars.iter().any(|known| *known == bar), "{bar:?} {bars:?}");
        }
        assert!(bars.contains(&vec![very, "61"]), "{bars:?}");
        // 07 + 17 + 37 of 64 in January and May.
        assert!(
            bars.iter()
                .any(|bar| bar[0] == "2026-05" && bar[2] == "97.37"),
            "{bars:?}"
        );
        assert_eq!(page.matches("<svg").count(), 4);
        let name = if language == Language::English {
            "Qingdao"
        } else {
            "青岛"
        };
        assert!(page.contains(name));
    }
}

#[test]
fn names_of_items_cannot_break_the_page() {
    let mut rows = vec![row("370200", "370200", "2026-01", "<b>&\"'", 5)];
    rows[0].mode = "</table>".into();
    let page = of(rows).render(Format::Html, Language::Chinese).unwrap();
    is_well_formed(&page);
    assert!(!page.contains("<b>"));
}
