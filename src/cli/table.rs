//! Columns.

use super::out::{Ink, Paint};
use super::words::printable;

/// Rows under a header, each column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Vec<(String, Ink)>>,
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|h| ((*h).to_owned(), Ink::Strong)).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [(String, Ink); N]) {
        self.rows.push(cells.into_iter().map(|(text, ink)| (printable(&text), ink)).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    pub(super) fn render(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |at: usize| self.rows.iter().filter_map(|r| r.get(at)).map(|c| c.0.chars().count()).max();
        let widths: Vec<usize> = (0..columns).filter_map(width).collect();
        self.rows.iter().map(|row| line(row, &widths, paint)).collect()
    }
}

/// Colours are put on after the widths are known; nothing is left at the end of a line.
fn line(row: &[(String, Ink)], widths: &[usize], paint: Paint) -> String {
    let mut line = String::new();
    let mut gap = 0;
    for ((text, ink), width) in row.iter().zip(widths) {
        if !text.is_empty() {
            line.extend(std::iter::repeat_n(' ', gap));
            line.push_str(&paint.ink(*ink, text));
            gap = 0;
        }
        gap += width - text.chars().count() + 2;
    }
    line.push('\n');
    line
}

/// A cell without colour.
pub(super) fn plain(text: impl Into<String>) -> (String, Ink) {
    (text.into(), Ink::Plain)
}
