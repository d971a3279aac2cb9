//! Charts as SVG within the page: no scripts, nothing from elsewhere. Each bar tells its value in words, too, so that the
//! chart can be read aloud and compared with the table.

use std::fmt::Write;

use super::page::escaped;

/// Fills that differ in grey, too, so that they are told apart in print.
const FILLS: [&str; 5] = ["#1f4e79", "#8fb8de", "#d9d9d9", "#e8a33d", "#a33b2e"];
const WIDTH: i64 = 640;
const HEIGHT: i64 = 200;
/// Room at the left for the scale, below for labels, above for values and the key.
const LEFT: i64 = 48;
const BOTTOM: i64 = 24;
const TOP: i64 = 30;

/// Values of one kind, one for each label.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// None where there is nothing to show.
    pub(super) values: Vec<Option<i64>>,
}

/// A value as it is shown: whole, or with two decimals where it counts hundredths.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Count,
    Hundredths,
}

impl Unit {
    fn shown(self, value: i64) -> String {
        match self {
            Self::Count => value.to_string(),
            Self::Hundredths => format!("{}.{:02}", value / 100, value % 100),
        }
    }
}

/// The end of a scale that is not below a value: four times 1, 2 or 5 by powers of ten, or 25 and its multiples by ten, so that each of its
/// quarters is a whole and round number.
fn scale_end(value: i64) -> i64 {
    let quarter = value.saturating_add(3) / 4;
    let mut power = 1;
    loop {
        for tenths in [10, 20, 25, 50] {
            let step = power * tenths / 10;
            if power * tenths % 10 == 0 && step >= quarter {
                return step * 4;
            }
        }
        power *= 10;
    }
}

/// Upright bars, side by side for each label.
pub(super) fn columns(title: &str, labels: &[&str], series: &[Series<'_>], unit: Unit) -> String {
    let values = series
        .iter()
        .flat_map(|series| series.values.iter().flatten());
    let most = match unit {
        Unit::Count => scale_end(values.copied().max().unwrap_or(0).max(1)),
        Unit::Hundredths => 10_000,
    };
    let mut svg = open(title, HEIGHT);
    let (floor, rise) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP);
    for quarter in 0..=4 {
        let y = floor - rise * quarter / 4;
        let value = unit.shown(most * quarter / 4);
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{WIDTH}\" y2=\"{y}\" class=\"grid\"/>\
             <text x=\"{}\" y=\"{}\" class=\"scale\">{value}</text>",
            LEFT - 6,
            y + 3
        );
    }
    let count = i64::try_from(labels.len().max(1)).unwrap_or(1);
    let room = (WIDTH - LEFT) / count;
    let bars = i64::try_from(series.len().max(1)).unwrap_or(1);
    let bar = (room * 7 / 10 / bars).clamp(2, 48);
    for (place, label) in (0..).zip(labels) {
        let middle = LEFT + room * place + room / 2;
        let _ = write!(
            svg,
            "<text x=\"{middle}\" y=\"{}\" class=\"label\">{}</text>",
            HEIGHT - 8,
            escaped(label)
        );
    }
    for ((nth, series), fill) in (0..).zip(series).zip(FILLS) {
        for ((place, value), label) in (0..).zip(&series.values).zip(labels) {
            let Some(value) = value else { continue };
            let tall = rise * value / most;
            let x = LEFT + room * place + (room - bar * bars) / 2 + bar * nth;
            let _ = write!(
                svg,
                "<rect x=\"{x}\" y=\"{}\" width=\"{bar}\" height=\"{tall}\" fill=\"{fill}\">\
                 <title>{} · {} · {}</title></rect>",
                floor - tall,
                escaped(label),
                escaped(series.name),
                unit.shown(*value)
            );
        }
    }
    legend(&mut svg, series);
    svg.push_str("</svg>");
    svg
}

fn legend(svg: &mut String, series: &[Series<'_>]) {
    if series.len() < 2 {
        return;
    }
    for ((nth, series), fill) in (0..).zip(series).zip(FILLS) {
        let x = LEFT + 130 * nth;
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"6\" width=\"10\" height=\"10\" fill=\"{fill}\"/>\
             <text x=\"{}\" y=\"15\" class=\"key\">{}</text>",
            x + 15,
            escaped(series.name)
        );
    }
}

/// Lying bars, one for each label, with the value at their end.
pub(super) fn bars(title: &str, labels: &[&str], values: &[i64], fills: bool) -> String {
    const ROW: i64 = 20;
    const NAMES: i64 = 200;
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let height = ROW * i64::try_from(labels.len().max(1)).unwrap_or(1) + 6;
    let mut svg = open(title, height);
    for ((nth, label), value) in (0_usize..).zip(labels).zip(values) {
        let y = ROW * i64::try_from(nth).unwrap_or(0) + 3;
        let long = (WIDTH - NAMES - 60) * value / most;
        let fill = FILLS[if fills { nth % FILLS.len() } else { 0 }];
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" class=\"scale\">{label}</text>\
             <rect x=\"{NAMES}\" y=\"{y}\" width=\"{long}\" height=\"14\" fill=\"{fill}\">\
             <title>{label} · {value}</title></rect>\
             <text x=\"{}\" y=\"{}\" class=\"key\">{value}</text>",
            NAMES - 6,
            y + 11,
            NAMES + long + 5,
            y + 11,
            label = escaped(label)
        );
    }
    svg.push_str("</svg>");
    svg
}

fn open(title: &str, height: i64) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers_and_so_do_their_quarters() {
        for (value, end) in [
            (1, 4),
            (4, 4),
            (5, 8),
            (11, 20),
            (49, 80),
            (81, 100),
            (101, 200),
            (1_001, 2_000),
        ] {
            assert_eq!(scale_end(value), end);
        }
        let series = Series {
            name: "n",
            values: vec![Some(1)],
        };
        let svg = columns("t", &["a"], &[series], Unit::Count);
        for quarter in 0..=4 {
            let label = format!("class=\"scale\">{quarter}</text>");
            assert_eq!(svg.matches(&label).count(), 1, "{svg}");
        }
    }

    #[test]
    fn the_highest_bar_fits_and_heights_are_in_proportion() {
        let series = Series {
            name: "n",
            values: vec![Some(100), Some(25), None],
        };
        let svg = columns("t", &["a", "b", "c"], &[series], Unit::Count);
        let rise = HEIGHT - BOTTOM - TOP;
        assert!(svg.contains(&format!("height=\"{rise}\"")));
        assert!(svg.contains(&format!("height=\"{}\"", rise / 4)));
        assert_eq!(svg.matches("<rect").count(), 2);
    }
}
