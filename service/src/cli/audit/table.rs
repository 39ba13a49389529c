//! Tables for people: as wide as the terminal, whatever comes from outside escaped (A06).
//!
//! Cells in, lines out. Piped into a file or a program, nothing is cut.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use cordon_audit::escape;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A table that is being filled.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    width: Option<usize>,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name, in the first line.
    pub name: &'static str,
    /// Whether it may be cut when the lines get too long.
    pub cut: bool,
    /// Whether it is of numbers.
    pub right: bool,
}

impl Column {
    /// A column that is never cut.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            cut: false,
            right: false,
        }
    }

    /// One that may be cut.
    pub const fn cut(name: &'static str) -> Self {
        Self {
            name,
            cut: true,
            right: false,
        }
    }

    /// One of numbers.
    pub const fn number(name: &'static str) -> Self {
        Self {
            name,
            cut: false,
            right: true,
        }
    }
}

impl Table {
    /// An empty table, for lines of at most `width` columns where that is known.
    pub fn new(columns: &[Column], width: Option<usize>) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
            width,
        }
    }

    /// Adds a row; the cells are escaped here.
    pub fn add<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows
            .push(cells.iter().map(|cell| escape(cell).to_string()).collect());
    }

    /// The lines, each with its line end; the first has the names.
    pub fn render(&self, paint: impl Fn(&str, &str) -> String) -> String {
        let widths = self.widths();
        let mut out = String::new();
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.name.into())
            .collect();
        let head = line(&self.columns, &names, &widths, &|_, cell| cell.into());
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "{}", paint("", head.trim_end()));
        for row in &self.rows {
            let line = line(&self.columns, row, &widths, &paint);
            let _infallible = writeln!(out, "{}", line.trim_end());
        }
        out
    }

    /// What each column gets: what it needs, and the cut ones less when it is too much.
    fn widths(&self) -> Vec<usize> {
        let need = |(at, column): (usize, &Column)| {
            let cells = self
                .rows
                .iter()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.width());
            cells.max().unwrap_or(0).max(column.name.width())
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(need).collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let limit = self.width.unwrap_or(usize::MAX);
        let mut over = widths
            .iter()
            .sum::<usize>()
            .saturating_add(gaps)
            .saturating_sub(limit);
        while over > 0 {
            // The widest gives way first, one column at a time; there are few.
            let cut = self
                .columns
                .iter()
                .zip(&mut widths)
                .filter(|(column, _)| column.cut);
            match cut.map(|(_, width)| width).max_by_key(|width| **width) {
                Some(width) if *width > LEAST => *width -= 1,
                _ => break,
            }
            over -= 1;
        }
        widths
    }
}

fn line(
    columns: &[Column],
    cells: &[String],
    widths: &[usize],
    paint: &dyn Fn(&str, &str) -> String,
) -> String {
    let mut line = String::new();
    for ((column, cell), width) in columns.iter().zip(cells).zip(widths) {
        if !line.is_empty() {
            line.push_str(GAP);
        }
        let shown = shorten(cell, *width);
        let space = " ".repeat(width.saturating_sub(shown.width()));
        let painted = paint(column.name, &shown);
        let _infallible = match column.right {
            true => write!(line, "{space}{painted}"),
            false => write!(line, "{painted}{space}"),
        };
    }
    line
}

/// At most `width` columns of a text; `…` stands for the rest.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let mut kept = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else {
            break;
        };
        left = rest;
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// Width of the terminal that the results go to, where they do.
pub fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col >= 40).then(|| size.ws_col.into())
}

/// Whether results may have colours.
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

const GAP: &str = "  ";

/// Columns that a cut cell keeps.
const LEAST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>) -> String {
        let columns = [
            Column::new("TIME"),
            Column::cut("WHAT"),
            Column::number("COUNT"),
        ];
        let mut table = Table::new(&columns, width);
        table.add(["12:00", "connect api.example.com:443", "7"]);
        table.add(["12:01", "a\u{1b}[2J\nb", "1000"]);
        table.render(|_, cell| cell.into())
    }

    #[test]
    fn a06_cells_are_escaped_and_stay_one_line_each() {
        let text = table(None);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("a\\u{1b}[2J\\nb") && !text.contains('\u{1b}'));
        assert!(
            text.contains("connect api.example.com:443      7\n"),
            "{text}"
        );
    }

    #[test]
    fn lines_fit_the_terminal_and_only_what_may_be_cut_is() {
        for width in [24, 30, 40] {
            let text = table(Some(width));
            assert!(
                text.lines().all(|line| line.width() <= width),
                "{width}: {text}"
            );
            assert!(text.contains('…') && text.contains("12:00") && text.contains("1000"));
        }
        assert!(!table(Some(80)).contains('…'));
    }

    #[test]
    fn wide_characters_are_counted_as_they_are_shown() {
        assert_eq!(shorten("日本語", 6), "日本語");
        assert_eq!(shorten("日本語", 5), "日本…");
        assert_eq!(shorten("abc", 2), "a…");
    }
}
