//! The progress of long work.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of so many steps on standard error, where that is a terminal; elsewhere nothing is drawn.
pub(crate) fn bar(steps: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::new(steps);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A [`bar`] of entries.
pub(crate) fn entries_bar(entries: u64) -> ProgressBar {
    bar(
        entries,
        "{bar:40} {human_pos} of {human_len} entries, {per_sec}, {eta} left",
    )
}
