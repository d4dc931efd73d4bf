//! What a folder's page holds beside its template: rows, breadcrumbs, the way to other pages.

use super::{ROWS_MAX, Shown, escape};
use crate::share::http::api::{ListQuery, moment};
use crate::share::listing::Row;
use crate::share::path;
use crate::store::confined::RelativePath;

/// A name as it is shown: what commands or turns text, and most of what cannot be seen, is seen as U+FFFD. What joins
/// letters or pictures to one stays.
pub(super) fn readable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// The same characters as `UNSAFE` in the script.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// One entry; `here` is the encoded path of its folder.
pub(super) fn row(here: &str, index: usize, row: &Row) -> String {
    let name = escape(&readable(&row.name));
    let slash = if row.is_folder { "/" } else { "" };
    let href = format!("{}{slash}", path::encode_name(&row.name));
    let kind = row.type_name();
    let size = if row.is_folder { "<span class=\"dim\">Folder</span>".to_string() } else { bytes(row.bytes) };
    let modified = moment(row.modified_s).unwrap_or_default();
    let day = modified.get(..10).unwrap_or_default();
    let get = if row.is_folder { "?zip" } else { "" };
    format!(
        "<tr class=\"row\" role=\"row\" aria-rowindex=\"{}\" aria-selected=\"false\">\
         <td role=\"gridcell\" class=\"c-check\"><label class=\"check\"><input type=\"checkbox\" name=\"item\" \
         value=\"{href}\" aria-label=\"Select {name}\"></label></td>\
         <td role=\"gridcell\" class=\"c-name\"><a class=\"name\" href=\"/f/{here}{href}\">\
         <svg class=\"ico t-{kind}\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><use href=\"#i-{kind}\"/></svg>\
         <span class=\"label\"><bdi>{name}</bdi></span></a></td>\
         <td role=\"gridcell\" class=\"c-size\">{size}</td>\
         <td role=\"gridcell\" class=\"c-date\"><time datetime=\"{modified}\">{day}</time></td>\
         <td role=\"gridcell\" class=\"c-more\"><a class=\"btn ghost icon\" href=\"/f/{here}{href}{get}\" download \
         aria-label=\"Download {name}\"><svg class=\"ico\" viewBox=\"0 0 24 24\" aria-hidden=\"true\">\
         <use href=\"#i-download\"/></svg></a></td>\
         </tr>\n",
        index + 2
    )
}

/// The folders on the way, the share itself first.
pub(super) fn crumbs(title: &str, at: &RelativePath) -> String {
    let mut steps = vec![(String::new(), escape(title))];
    for name in at.names() {
        let above = steps.last().map_or("", |(href, _)| href);
        steps.push((format!("{above}{}/", path::encode_name(name)), escape(&readable(name))));
    }
    let last = steps.len() - 1;
    let step = |(index, (href, name)): (usize, &(String, String))| {
        let current = if index == last { " aria-current=\"page\"" } else { "" };
        format!("<li><a href=\"/f/{href}\"{current}><bdi>{name}</bdi></a></li>")
    };
    steps.iter().enumerate().map(step).collect()
}

/// Links to the pages before and after.
pub(super) fn pager(shown: &Shown<'_>) -> String {
    let pages = shown.rows.total.div_ceil(ROWS_MAX);
    if pages <= 1 {
        return String::new();
    }
    let link = |number: usize, text: &str| {
        let mut query = query_of(shown.list, None);
        query.push(format!("page={number}"));
        format!("<a class=\"btn\" href=\"?{}\">{text}</a> ", escape(&query.join("&")))
    };
    let before = if shown.number > 1 { link(shown.number - 1, "Back") } else { String::new() };
    let after = if shown.number < pages { link(shown.number + 1, "Next") } else { String::new() };
    format!("{before}<span class=\"dim\">{} / {pages}</span> {after}", shown.number)
}

/// How a column is ordered now, and the link that orders by it.
pub(super) fn order(column: &str, list: &ListQuery) -> (&'static str, String) {
    let sorted = list.sort.as_deref().filter(|sort| !sort.is_empty()).unwrap_or("name");
    let is_descending = list.order.as_deref() == Some("desc");
    let state = match (sorted == column, is_descending) {
        (false, _) => "none",
        (true, false) => "ascending",
        (true, true) => "descending",
    };
    let next = if state == "ascending" { "desc" } else { "asc" };
    (state, format!("?{}", query_of(list, Some((column, next))).join("&")))
}

/// The parts of a query that stay, with another order if one is given.
fn query_of(list: &ListQuery, order: Option<(&str, &str)>) -> Vec<String> {
    let kept = |name: &str, value: &Option<String>| {
        value
            .as_deref()
            .filter(|value| !value.is_empty())
            .map(|value| format!("{name}={}", path::encode_name(value.as_bytes())))
    };
    let ordered = match order {
        Some((column, direction)) => vec![format!("sort={column}"), format!("order={direction}")],
        None => [kept("sort", &list.sort), kept("order", &list.order)].into_iter().flatten().collect(),
    };
    ordered.into_iter().chain(kept("type", &list.media)).collect()
}

/// Bytes for a person, as the script has them.
fn bytes(n: u64) -> String {
    const STEPS: [(&str, f64); 5] = [("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let exact = n as f64;
    match STEPS.iter().find(|(_, size)| exact >= *size) {
        Some((unit, size)) if exact / size < 9.95 => format!("{:.1} {unit}", exact / size),
        Some((unit, size)) => format!("{:.0} {unit}", exact / size),
        None => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_markup_are_text() {
        let entry = Row {
            name: b"<img src=x onerror=alert(1)>\"'\xe2\x80\xaex".to_vec(),
            is_folder: false,
            bytes: 1500,
            modified_s: 0,
            modified_ns: 0,
            media: None,
        };
        let text = row("a%20b/", 0, &entry);
        assert!(!text.contains("<img") && !text.contains('\u{202e}') && text.contains("&lt;img"), "{text}");
        assert!(text.contains("1.5 kB") && text.contains("href=\"/f/a%20b/%3Cimg"));
    }

    #[test]
    fn the_way_up_is_linked() {
        let at = RelativePath::parse(b"a b/c").unwrap();
        let crumbs = crumbs("top", &at);
        assert!(crumbs.contains("href=\"/f/a%20b/c/\" aria-current") && crumbs.contains("href=\"/f/\""));
    }

    #[test]
    fn a_second_click_turns_the_order_around() {
        let list = ListQuery { sort: Some("size".into()), media: Some("image".into()), ..ListQuery::default() };
        assert_eq!(order("size", &list), ("ascending", "?sort=size&order=desc&type=image".to_string()));
        assert_eq!(order("name", &list), ("none", "?sort=name&order=asc&type=image".to_string()));
        assert_eq!(order("name", &ListQuery::default()).0, "ascending");
    }
}
