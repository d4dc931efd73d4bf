//! Templates and assets of the page: part of the program, filled with text that is escaped.
//!
//! What each template takes is described in `src/share/page/README.md`. The script renders the same rows: whoever
//! changes one changes both. The script is all modules in one, which `page/embed.rs` makes when the program is built.

mod rows;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::api::ListQuery;
use super::guard::Guest;
use super::problem::Problem;
use crate::share::listing;
use crate::share::path;
use crate::share::state::{About, Share};
use crate::store::confined::RelativePath;

/// Rows of a page without script.
pub const ROWS_MAX: usize = 500;
/// Most pages: rows are counted without an end to the numbers.
pub const PAGES_MAX: usize = u32::MAX as usize;

/// What every page begins with.
const HEAD: &str = include_str!("../page/head.html");
const LIST: &str = include_str!("../page/list.html");
const ENTER: &str = include_str!("../page/enter.html");
const PASSWORD: &str = include_str!("../page/password.html");
const ERROR: &str = include_str!("../page/error.html");

const ICON: &str = include_str!("../page/icon.svg");
const STYLE: &str = include_str!(concat!(env!("OUT_DIR"), "/app.css"));
const SCRIPT: &str = include_str!(concat!(env!("OUT_DIR"), "/app.js"));

/// What `/a/` has: name, content type, content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("app.css", "text/css; charset=utf-8", STYLE),
    ("app.js", "text/javascript; charset=utf-8", SCRIPT),
    ("icon.svg", "image/svg+xml", ICON),
];

/// `GET /a/<name>`
pub async fn asset(Path(name): Path<String>, asked: HeaderMap) -> Result<Response, Problem> {
    let (_, kind, content) = ASSETS.iter().find(|(known, ..)| *known == name).ok_or_else(Problem::missing)?;
    let hash = blake3::hash(content.as_bytes()).to_hex();
    let etag = format!("\"{}\"", &hash[..16]);
    let had = asked.get(header::IF_NONE_MATCH).and_then(|had| had.to_str().ok()).unwrap_or_default();
    // A compressed one has a weak tag.
    let has_it = had.trim_start_matches("W/") == etag;
    let mut response = if has_it { StatusCode::NOT_MODIFIED.into_response() } else { content.into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.extend(HeaderValue::from_str(&etag).ok().map(|etag| (header::ETAG, etag)));
    Ok(response)
}

/// A page as an answer.
pub fn html(text: String) -> Response {
    Html(text).into_response()
}

/// A page whose forms are sent to this share, which wants to see where they come from. What a foreign page is told is
/// at most the origin, and of the link's own page nobody is told more.
pub fn html_with_forms(text: String, is_link: bool) -> Response {
    let mut response = html(text);
    let policy = if is_link { "strict-origin" } else { "same-origin" };
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static(policy));
    response
}

/// Text that means nothing in HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// What a template's placeholder becomes.
enum Value<'a> {
    Text(&'a str),
    Html(&'a str),
}

/// A template with its placeholders filled: `{{name}}` with escaped text, `{{&name}}` with HTML. What has no value
/// becomes empty; values are not looked through for placeholders. `{{&head}}` is the same in all.
fn fill(template: &str, values: &[(&str, Value<'_>)]) -> String {
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { return filled };
        let value = values.iter().find(|(known, _)| *known == name.trim_start_matches('&')).map(|(_, value)| value);
        match value {
            _ if name == "&head" => filled.push_str(HEAD),
            Some(Value::Text(text)) => filled.push_str(&escape(text)),
            Some(Value::Html(html)) => filled.push_str(html),
            None => {}
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// What was wrong.
pub fn problem(status: StatusCode, why: &str) -> String {
    let title = match status.as_u16() {
        401 => "Ask for the link",
        403 => "Not allowed",
        404 => "Not here",
        410 => "Over",
        421 => "Another name",
        429 => "Wait a moment",
        507 => "No room left",
        code if code < 500 => "That did not work",
        _ => "Something went wrong",
    };
    // Whoever is not in has nowhere to go back to.
    let (back, back_text) =
        if status == StatusCode::UNAUTHORIZED { ("/", "Try again") } else { ("/f/", "To the files") };
    let values = [
        ("title", Value::Text(title)),
        ("message", Value::Text(why)),
        ("back", Value::Text(back)),
        ("back_text", Value::Text(back_text)),
    ];
    fill(ERROR, &values)
}

/// Somebody is in: on to the folder.
pub fn welcome(about: &About) -> String {
    fill(ENTER, &[("title", Value::Text(&about.title)), ("host", Value::Text(&about.host))])
}

/// The password's form.
pub fn password(about: &About, link: &str, error: Option<&str>) -> String {
    let values = [
        ("host", Value::Text(&about.host)),
        ("link", Value::Text(link)),
        ("error", Value::Text(error.unwrap_or_default())),
    ];
    fill(PASSWORD, &values)
}

/// What is shown of a folder.
pub struct Shown<'a> {
    /// As it was asked for.
    pub list: &'a ListQuery,
    /// The page's number, from 1.
    pub number: usize,
    /// Its rows.
    pub rows: &'a listing::Page,
}

/// A folder.
pub fn folder(share: &Share, guest: &Guest, at: &RelativePath, shown: &Shown<'_>) -> String {
    let here = path::encode(at, true);
    let rights = guest.visitor.rights.names().collect::<Vec<_>>().join(" ");
    let first = (shown.number - 1).saturating_mul(ROWS_MAX);
    let rows: String = (first..).zip(&shown.rows.rows).map(|(index, row)| rows::row(&here, index, row)).collect();
    let crumbs = rows::crumbs(&share.about.title, at);
    let pager = rows::pager(shown);
    let orders = ["name", "size", "date"].map(|column| rows::order(column, shown.list));
    let rowcount = (shown.rows.total + 1).to_string();
    let [(name_sort, name_href), (size_sort, size_href), (date_sort, date_href)] = &orders;
    let values = [
        ("title", Value::Text(&share.about.title)),
        ("host", Value::Text(&share.about.host)),
        ("rights", Value::Text(&rights)),
        ("path", Value::Text(&here)),
        ("rowcount", Value::Text(&rowcount)),
        ("name_sort", Value::Text(name_sort)),
        ("name_href", Value::Text(name_href)),
        ("size_sort", Value::Text(size_sort)),
        ("size_href", Value::Text(size_href)),
        ("date_sort", Value::Text(date_sort)),
        ("date_href", Value::Text(date_href)),
        ("crumbs", Value::Html(&crumbs)),
        ("rows", Value::Html(&rows)),
        ("pager", Value::Html(&pager)),
    ];
    fill(LIST, &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_once_and_escaped() {
        let values = [("a", Value::Text("<{{b}}>'\"&")), ("b", Value::Html("<b>"))];
        assert_eq!(fill("x{{a}}y{{&b}}z{{none}}", &values), "x&lt;{{b}}&gt;&#39;&quot;&amp;y<b>z");
        assert_eq!(fill("open {{a", &values), "open ");
    }

    #[test]
    fn every_placeholder_of_every_template_is_filled() {
        let about =
            About { title: "T".into(), host: "H".into(), is_https: true, authorities: vec!["a:1".to_string()].into() };
        for page in [problem(StatusCode::NOT_FOUND, "why"), welcome(&about), password(&about, "link", None)] {
            assert!(!page.contains("{{") && page.contains("</html>"));
        }
    }

    #[test]
    fn nothing_in_a_template_comes_from_elsewhere_or_runs_inline() {
        for page in [HEAD, LIST, ENTER, PASSWORD, ERROR] {
            assert!(!page.contains("http://") && !page.contains("https://") && !page.contains(" style="));
            assert!(!page.contains("<style") && !page.contains("<script>") && !page.contains(" onclick"));
        }
    }

    #[test]
    fn all_of_the_page_is_at_most_80_kilobytes() {
        let sizes = [HEAD, LIST, ENTER, PASSWORD, ERROR, ICON, STYLE, SCRIPT].map(str::len);
        let sum: usize = sizes.iter().sum();
        println!("{sizes:?}: {sum} bytes");
        assert!(sum <= 80_000, "{sizes:?}: {sum} bytes");
    }

    #[test]
    fn the_script_is_one_and_has_no_comments() {
        for of_modules in ["import", "export"] {
            assert!(!SCRIPT.split([';', '}']).any(|statement| statement.starts_with(of_modules)), "{of_modules}");
        }
        assert!(!SCRIPT.contains("/* ") && !SCRIPT.contains("// ") && !STYLE.contains("/* "));
    }
}
