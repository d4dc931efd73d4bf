//! A run as text for a person: header, matrices, latency, what the labels mean, what to use.
//!
//! Everything that matters is visible without colour: colour only repeats what a mark says. Foreign text is
//! escaped where it enters a line.

mod header;
mod latency;
mod matrix;
mod notes;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::advice;
use super::grid::Grids;
use super::schema::{Document, Recommendation};

/// Width where the terminal does not say, in characters.
const WIDTH_DEFAULT: usize = 100;
/// Narrowest width that is laid out for; a narrower terminal wraps by itself.
const WIDTH_MIN: usize = 40;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours.
    pub colour: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
    /// Characters in a line.
    pub width: usize,
}

impl Style {
    /// What every terminal and file can show: no colour, ASCII only, 100 characters.
    pub fn plain() -> Self {
        Self { colour: false, unicode: false, width: WIDTH_DEFAULT }
    }

    /// What this terminal can show, from its environment (`NO_COLOR`, `TERM`, the locale) and its width in
    /// characters where that is known.
    pub fn detect(is_tty: bool, env: impl Fn(&str) -> Option<String>, width: Option<usize>) -> Self {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").as_deref() == Some("dumb");
        // The first of these that is set decides, as in setlocale(3).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let utf8 = locale.is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Self {
            colour: is_tty && !dumb && set("NO_COLOR").is_none(),
            unicode: utf8 && !dumb,
            width: width.unwrap_or(WIDTH_DEFAULT).max(WIDTH_MIN),
        }
    }
}

/// The whole report; every line ends with a line end and none with a space.
pub fn render(doc: &Document, style: &Style) -> String {
    let grids = Grids::of(&doc.cells);
    let advised = recommendation(doc);
    let mut sections = vec![header::lines(doc, style)];
    sections.extend(matrix::sections(&grids, &advised, style));
    sections.push(latency::lines(&doc.latency, style));
    sections.push(notes::labels(doc, style));
    sections.push(notes::tcp(&doc.cells, &advised, style));
    sections.push(notes::sentences(&advised, style));
    let text: Vec<String> =
        sections.into_iter().filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n") + "\n").collect();
    charset(text.join("\n"), style)
}

/// What the document recommends; computed anew where it says nothing or points at no number.
fn recommendation(doc: &Document) -> Recommendation {
    let stored = &doc.recommendation;
    let fastest = stored.fastest.and_then(|index| doc.cells.get(index));
    if fastest.is_some_and(|cell| advice::median(cell).is_some()) {
        return stored.clone();
    }
    advice::recommend(&doc.cells)
}

/// A light table of text, for whoever lists something else than a run. Foreign text must be escaped already.
pub fn text_table(head: Vec<String>, rows: Vec<Vec<String>>, style: &Style) -> String {
    charset(lines_of(&light(head, rows)).join("\n") + "\n", style)
}

/// A light table: a line under its head, nothing else.
fn light(head: Vec<String>, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    table.add_rows(rows);
    table
}

fn lines_of(table: &Table) -> Vec<String> {
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A light table whose first column is text and whose others are figures.
fn table(head: Vec<String>, rows: Vec<Vec<String>>) -> Vec<String> {
    let mut table = light(head, rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    lines_of(&table)
}

/// `text` in lines of at most the style's width, each after the first indented by `indent` spaces. A word longer
/// than a line stands alone.
fn wrap(text: &str, indent: usize, style: &Style) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let full = line.chars().count() + 1 + word.chars().count() > style.width;
        if full && !line.trim().is_empty() {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            line.push_str(word);
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

fn bold(text: &str, style: &Style) -> String {
    paint("1", text, style)
}

fn good(text: &str, style: &Style) -> String {
    paint("32", text, style)
}

fn best(text: &str, style: &Style) -> String {
    paint("1;32", text, style)
}

fn warning(text: &str, style: &Style) -> String {
    paint("1;31", text, style)
}

fn paint(code: &str, text: &str, style: &Style) -> String {
    if style.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The text in the characters that the terminal has. What stands in tables keeps its width.
fn charset(text: String, style: &Style) -> String {
    if style.unicode {
        return text;
    }
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '–' | '─' | '·' => ascii.push('-'),
            '×' => ascii.push('x'),
            'µ' => ascii.push('u'),
            '±' => ascii.push_str("+/-"),
            '≥' => ascii.push_str(">="),
            '…' => ascii.push_str("..."),
            _ if character.is_ascii() => ascii.push(character),
            _ => ascii.push('?'),
        }
    }
    ascii
}

#[cfg(test)]
mod tests;
