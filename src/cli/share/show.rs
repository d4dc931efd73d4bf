//! What the owner sees when a share begins: how phones and programs get in, as link and as QR code.
//!
//! The code comes last before the link, so that both, and the fingerprint, stay in sight on a terminal of 24 lines. It is drawn with colours
//! of its own, dark on light, so that it reads alike on dark and light terminals.

use std::fmt::Write as _;

use fast_qr::{ECL, QRBuilder};

use crate::cli::out;
use crate::proto::fingerprint::Fingerprint;
use crate::report::terminal::Style;

/// Columns and lines of a terminal that does not say how large it is.
const SIZE: (usize, usize) = (80, 24);
/// The margin that the standard asks for, and the least that readers are content with, modules.
const QUIET_MAX: usize = 4;
const QUIET_MIN: usize = 2;
/// Black on white of the 256 colours, which no theme changes.
const DARK_ON_LIGHT: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// What there is to show, besides the links.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// `photos`.
    pub(super) title: String,
    /// Where uploads go, as it was typed.
    pub(super) folder: Option<String>,
    pub(super) host: String,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) is_self_signed: bool,
    /// What somebody may do there.
    pub(super) rights: String,
    /// `get` or `put`: what a program is started with.
    pub(super) command: &'static str,
    /// The line of what happens comes below.
    pub(super) is_live: bool,
}

impl Shown {
    /// For the terminal of standard output as it is now. The likeliest link comes first.
    pub(super) fn now(&self, links: &[String]) -> String {
        self.render(links, &out::style_of_stdout(), size_of_stdout())
    }

    /// For a terminal of so many columns and lines.
    fn render(&self, links: &[String], style: &Style, size: Option<(usize, usize)>) -> String {
        let (width, lines) = size.unwrap_or(SIZE);
        let mut text = format!("sharing {} from {} ({})\n", self.title, self.host, self.rights);
        let first = links.first().map_or("", String::as_str);
        for other in links.iter().skip(1) {
            let _ = writeln!(text, "  also {other}");
        }
        let mut below = first.len().div_ceil(width) + usize::from(self.is_live);
        let mut proof = String::new();
        if let Some(fingerprint) = self.fingerprint {
            let _ =
                writeln!(text, "A program gets in by: linerate {} {first} --fingerprint {fingerprint}", self.command);
            if self.is_self_signed {
                text.push_str(
                    "A browser warns once that nobody vouches for the certificate; it is right if this is its\n",
                );
            }
            proof = format!("SHA-256 {fingerprint}\n");
        }
        text.push_str(&proof);
        // A margin that leaves the fingerprint in sight, else the least.
        let with_proof = below + proof.len().saturating_sub(1).div_ceil(width);
        if code(first, style, width, lines.saturating_sub(with_proof)).is_ok() {
            below = with_proof;
        }
        match code(first, style, width, lines.saturating_sub(below)) {
            Ok(code) => text.push_str(&code),
            Err(why) => {
                let _ = writeln!(text, "(no QR code here: {why}; the page has one)");
            }
        }
        let _ = writeln!(text, "{first}");
        text
    }
}

/// Columns and lines of the terminal that standard output is, if it is one and says so.
pub(super) fn size_of_stdout() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some((usize::from(width.0), usize::from(height.0))).filter(|size| size.0 > 0 && size.1 > 0)
}

/// The loud line of a share in the clear. It is said on standard error, whatever else is quiet: what is on standard
/// output may be read by a program, and nobody is to find out later.
pub(super) const IN_THE_CLEAR: &str = "linerate: WARNING: --http: nothing is encrypted. Everybody on this network can read the link, the password, every \
     file and message, and change them on the way. Leave --http out unless you trust all of them.";

/// A QR code in half blocks that fits so many columns and lines, or why there is none.
fn code(link: &str, style: &Style, width: usize, lines: usize) -> Result<String, &'static str> {
    if !style.unicode {
        return Err("it takes a terminal with UTF-8");
    }
    if !style.colour {
        return Err("it takes colours, which NO_COLOR or the terminal rules out");
    }
    let code = QRBuilder::new(link).ecl(ECL::L).build().map_err(|_| "the link is too long")?;
    let side = |quiet: usize| code.size + 2 * quiet;
    if side(QUIET_MIN) > width {
        return Err("the terminal is too narrow");
    }
    let fits = |quiet: &usize| side(*quiet) <= width && side(*quiet).div_ceil(2) <= lines;
    let Some(quiet) = (QUIET_MIN..=QUIET_MAX).rev().find(fits) else { return Err("the terminal has too few lines") };
    let side = side(quiet);
    let is_dark = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(quiet).filter(|at| *at < code.size);
        matches!((inside(x), inside(y)), (Some(x), Some(y)) if code[y][x].value())
    };
    let mut drawn = String::new();
    for y in (0..side).step_by(2) {
        drawn.push_str(DARK_ON_LIGHT);
        for x in 0..side {
            drawn.push(match (is_dark(x, y), is_dark(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        drawn.push_str(RESET);
        drawn.push('\n');
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { colour: true, unicode: true, width: 80 };

    fn modules(drawn: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in drawn.lines() {
            let line = line.strip_prefix(DARK_ON_LIGHT).unwrap().strip_suffix(RESET).unwrap();
            rows.push(line.chars().map(|c| matches!(c, '█' | '▀')).collect());
            rows.push(line.chars().map(|c| matches!(c, '█' | '▄')).collect());
        }
        rows
    }

    #[test]
    fn every_usual_link_fits_a_small_terminal_with_its_code() {
        for host in ["10.0.0.1:5291", "192.168.100.200:65535", "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535"] {
            let link = format!("https://{host}/t/{}", "A".repeat(22));
            let drawn = code(&link, &STYLE, 80, 22).unwrap();
            assert!(drawn.lines().count() <= 22, "{host}: {}", drawn.lines().count());
            let rows = modules(&drawn);
            let side = rows[0].len();
            assert!(side <= 80);
            // What is drawn is the code itself, in a light margin.
            let expected = QRBuilder::new(link).ecl(ECL::L).build().map_err(|_| ()).unwrap();
            let quiet = (side - expected.size) / 2;
            assert!(quiet >= QUIET_MIN);
            for (y, row) in rows.iter().enumerate() {
                for (x, dark) in row.iter().enumerate() {
                    let inside = |at: usize| (quiet..quiet + expected.size).contains(&at);
                    let wanted = inside(x) && inside(y) && expected[y - quiet][x - quiet].value();
                    assert_eq!(*dark, wanted, "{host} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn a_code_that_could_not_be_read_is_left_out_and_the_link_is_not() {
        let links = ["https://192.0.2.1:5291/t/AAAAAAAAAAAAAAAAAAAAAA".to_string()];
        let shown = Shown {
            title: "photos".to_string(),
            folder: None,
            host: "desk".to_string(),
            fingerprint: Some(Fingerprint([1; 32])),
            is_self_signed: true,
            rights: "view,download".to_string(),
            command: "get",
            is_live: true,
        };
        let left_out = |style, size, why: &str| {
            let text = shown.render(&links, &style, size);
            assert!(text.contains(&format!("(no QR code here: {why}")) && !text.contains('\x1b'), "{text}");
            assert!(text.ends_with(&format!("{}\n", links[0])), "{text}");
        };
        left_out(Style { colour: false, ..STYLE }, None, "it takes colours");
        left_out(Style { unicode: false, ..STYLE }, None, "it takes a terminal with UTF-8");
        left_out(STYLE, Some((20, 24)), "the terminal is too narrow");
        left_out(STYLE, Some((80, 10)), "the terminal has too few lines");
        let text = shown.render(&links, &STYLE, None);
        assert!(text.contains("01:01:") && text.contains(DARK_ON_LIGHT));
        // From the fingerprint on it fits, with the line of what happens.
        let last = text.split("\nSHA-256").nth(1).unwrap();
        assert!(last.lines().count() + 2 <= 24, "{}", last.lines().count());
    }
}
