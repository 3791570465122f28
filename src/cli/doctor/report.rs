//! Prints the rows as a table or as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::doctor::judge::{Row, Status};
use crate::cli::exit::Exit;

/// All rows, and their worst status.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The worst status of all rows.
    status: Status,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        let status = rows.iter().map(|row| row.status).max().unwrap_or(Status::Unknown);
        Self { status, rows }
    }

    pub(crate) const fn exit(&self) -> Exit {
        match self.status {
            Status::Ok | Status::Note => Exit::Fine,
            Status::Unknown => Exit::CouldNotFindOut,
            Status::Red => Exit::Violations,
        }
    }

    /// Returns a table. A remedy stands below its row.
    pub(crate) fn text(&self) -> String {
        let width = self.rows.iter().map(|row| row.check.len()).max().unwrap_or_default();
        let mut text = String::new();
        for Row { check, status, detail, remedy } in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<7}  {check:<width$}  {detail}", status.word());
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "{:<7}  {:<width$}  -> {remedy}", "", "");
            }
        }
        text
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: Status, remedy: Option<&str>) -> Row {
        Row { check: "leader", status, detail: "nobody".into(), remedy: remedy.map(str::to_owned) }
    }

    #[test]
    fn the_worst_row_is_the_exit_code() {
        let exit =
            |rows: &[Status]| Report::new(rows.iter().map(|status| row(*status, None)).collect()).exit();
        assert_eq!(exit(&[Status::Ok, Status::Note]), Exit::Fine);
        assert_eq!(exit(&[Status::Unknown, Status::Ok]), Exit::CouldNotFindOut);
        assert_eq!(exit(&[Status::Red, Status::Unknown]), Exit::Violations);
        assert_eq!(exit(&[]), Exit::CouldNotFindOut);
    }

    #[test]
    fn the_shape_of_the_json_stays() {
        let report = Report::new(vec![row(Status::Red, Some("scale it")), row(Status::Ok, None)]);
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let wanted = serde_json::json!({
            "status": "red",
            "rows": [
                { "check": "leader", "status": "red", "detail": "nobody", "remedy": "scale it" },
                { "check": "leader", "status": "ok", "detail": "nobody" },
            ],
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn what_to_do_stands_below_its_row() {
        let text = Report::new(vec![row(Status::Red, Some("scale it"))]).text();
        assert_eq!(text, "red      leader  nobody\n                 -> scale it\n");
    }
}
