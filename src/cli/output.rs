//! What goes to standard output: a table on a terminal, tab-separated lines in a pipe, JSON where it is asked for.
//!
//! Results go to standard output and nothing else does; remarks, progress and errors go to standard error. With `--json` each
//! line there is a JSON object too: `{"note"}` or `{"error"}`.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::units;
use crate::api::{ErrorBody, ErrorEnvelope};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    /// Aligned, with headings, fitted to the terminal.
    Table,
    /// One line a row, tabs between fields, no headings: for `cut`, `awk` and `while read`.
    Plain,
}

#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
    /// Progress bars are for people.
    progress: bool,
}

impl Output {
    pub fn choose(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let format = match (json, terminal) {
            (true, _) => Format::Json,
            (false, true) => Format::Table,
            (false, false) => Format::Plain,
        };
        Self { format, progress: io::stderr().is_terminal() }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub fn is_terminal(&self) -> bool {
        self.format == Format::Table
    }

    /// One JSON document on one line.
    pub fn json(&self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    pub fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Bytes as they are: a command's output.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    pub fn rows(&self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let text = match self.format {
            Format::Table if rows.is_empty() => return Ok(()),
            Format::Table => table(headings, rows),
            Format::Plain | Format::Json => plain(rows),
        };
        self.raw(text.as_bytes())
    }

    /// The list `name` of an answer, with these fields as columns; with `--json` the answer as it is.
    pub fn listing(&self, fields: &[&str], answer: &Value, name: &str) -> io::Result<()> {
        if self.is_json() {
            return self.json(answer);
        }
        let items = answer[name].as_array().map_or(&[][..], Vec::as_slice);
        let row = |item: &Value| fields.iter().map(|field| cell(field, &item[*field])).collect();
        self.rows(fields, &items.iter().map(row).collect::<Vec<_>>())
    }

    /// One thing with named fields: a line each.
    pub fn record(&self, fields: &[(&str, String)]) -> io::Result<()> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: String = fields
            .iter()
            .map(|(name, value)| match self.format {
                Format::Table => format!("{name:width$}  {}\n", value.replace('\n', &format!("\n{:width$}  ", ""))),
                Format::Plain | Format::Json => format!("{name}\t{}\n", escape(value)),
            })
            .collect();
        self.raw(lines.as_bytes())
    }

    /// Any answer: as it is with `--json`, else its fields by their paths.
    pub fn document(&self, value: &Value) -> io::Result<()> {
        if self.is_json() {
            return self.json(value);
        }
        let mut fields = Vec::new();
        flatten("", value, &mut fields);
        let fields: Vec<(&str, String)> = fields.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
        self.record(&fields)
    }

    /// A remark for people, on standard error.
    pub fn note(&self, text: &str) {
        if self.is_json() { eprintln!("{}", json!({ "note": text })) } else { eprintln!("raftq: {text}") }
    }

    /// One of several (`job 17`, `line 3`) was refused, and the others go on.
    pub fn refused(&self, what: &'static str, number: u64, error: &ErrorBody) {
        if self.is_json() {
            eprintln!("{}", json!({ what: number, "error": error }));
        } else {
            eprintln!("raftq: {what} {number}: {}", error.message);
        }
    }

    /// Why the command failed: the last line on standard error.
    pub fn error(&self, error: ErrorBody) {
        if self.is_json() {
            eprintln!("{}", json!(ErrorEnvelope { error }));
        } else {
            eprintln!("raftq: {}", error.message);
        }
    }

    /// A bar on a terminal; nothing elsewhere. `None`: the length is not known.
    pub fn progress(&self, length: Option<u64>, what: &'static str) -> ProgressBar {
        if !self.progress || self.is_json() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), "{msg} {bar:32} {human_pos}/{human_len}  {per_sec}  {eta} left"),
            None => (ProgressBar::new_spinner(), "{msg} {human_pos}  {per_sec}"),
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are valid");
        bar.with_style(style).with_message(what)
    }
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some((width, _)) = terminal_size::terminal_size() {
        table.set_width(width.0);
    }
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn plain(rows: &[Vec<String>]) -> String {
    rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join("\t") + "\n").collect()
}

/// A tab or newline inside a field would make two of it.
fn escape(cell: &str) -> String {
    cell.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

/// `{"a": {"b": 1}}` is `a.b 1`.
fn flatten(path: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| flatten(&below(name), value, fields)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().for_each(|(index, item)| flatten(&below(&index.to_string()), item, fields));
        }
        value => fields.push((path.to_owned(), cell(path.rsplit('.').next().unwrap_or(path), value))),
    }
}

/// A field of a job as people read it: moments as local time, absent as `-`, lists with commas.
pub fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) if name == "at" || name.ends_with("_at") => {
            number.as_u64().map_or_else(|| number.to_string(), units::show_time)
        }
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(|item| cell("", item)).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_rows_keep_one_line_each() {
        let rows = vec![vec!["17".into(), "two\nlines\tand a tab".into()], vec!["18".into(), "-".into()]];
        assert_eq!(plain(&rows), "17\ttwo\\nlines\\tand a tab\n18\t-\n");
    }

    #[test]
    fn table_has_headings_and_columns() {
        let rows = vec![vec!["17".into(), "queued".into()], vec!["1234".into(), "success".into()]];
        assert_eq!(table(&["id", "status"], &rows), " ID    STATUS\n 17    queued\n 1234  success\n");
    }

    #[test]
    fn documents_are_flat() {
        let mut fields = Vec::new();
        flatten("", &json!({ "a": { "b": 1, "c": [1, 2] }, "d": [{ "e": null }] }), &mut fields);
        let fields: Vec<_> = fields.iter().map(|(path, value)| format!("{path}={value}")).collect();
        assert_eq!(fields, ["a.b=1", "a.c=1,2", "d.0.e=-"]);
    }

    #[test]
    fn cells_are_words() {
        for (name, value, expect) in [
            ("name", json!(null), "-"),
            ("name", json!("nightly"), "nightly"),
            ("groups", json!(["a", "b"]), "a,b"),
            ("groups", json!([]), "-"),
            ("attempts", json!(3), "3"),
            ("archived", json!(true), "true"),
        ] {
            assert_eq!(cell(name, &value), expect);
        }
    }
}
