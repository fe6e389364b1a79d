//! Results, as a table for people or as JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Writes a line.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Writes a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Writes a value as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Writes rows in columns as wide as they must be.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    line(&laid_out(head, rows))
}

/// Writes a list, as a table or as JSON.
pub(crate) fn list<T: Serialize>(
    output: Output,
    head: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<(), crate::Failure> {
    match output {
        Output::Json => json(&serde_json::json!({ "items": items }))?,
        Output::Table => table(head, &items.iter().map(row).collect::<Vec<_>>())?,
    }
    Ok(())
}

fn laid_out(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&title| title.to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width =
        |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..head.len()).map(|column| width(column).unwrap_or_default()).collect();
    let lines = all.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [vec!["qx-01".to_owned(), "leader".to_owned()], vec!["ä".to_owned(), String::new()]];
        assert_eq!(laid_out(&["HOST", "PART"], &rows), "HOST   PART\nqx-01  leader\nä");
    }
}
