//! The page of a share as it is embedded: one script and one style sheet, without what only people read.

use std::error::Error;
use std::fs;
use std::path::Path;

use minifier::js::{Keyword, ReservedChar, Token, clean_tokens_except, tokenize};

const FROM: &str = "src/share/page";

/// The script's modules, each after those that it imports from.
const MODULES: [&str; 8] = ["dom.js", "source.js", "list.js", "preview.js", "tus.js", "upload.js", "chat.js", "app.js"];

/// Writes `app.js` and `app.css` into a directory.
pub fn write(to: &Path) -> Result<(), Box<dyn Error>> {
    fs::write(to.join("app.js"), script()?)?;
    fs::write(to.join("app.css"), style()?)?;
    Ok(())
}

/// All modules in one scope, so that nothing is imported any more.
fn script() -> Result<String, Box<dyn Error>> {
    let mut all = String::new();
    for module in MODULES {
        for line in fs::read_to_string(Path::new(FROM).join(module))?.lines() {
            if !line.starts_with("import ") {
                all += line.strip_prefix("export ").unwrap_or(line);
                all.push('\n');
            }
        }
    }
    // It asks about the semicolons before a closing brace. None of them is an empty statement: all of them go.
    let tokens = clean_tokens_except(tokenize(&all)?, |_| true);
    Ok(join(tokens.0).to_string())
}

/// Makes one declaration of those that follow each other: `const a=1;const b=2` is `let a=1,b=2`. Who writes to a
/// constant is told so by an editor, not by the browser of a guest.
fn join(tokens: Vec<Token<'_>>) -> minifier::js::Tokens<'_> {
    let mut joined = Vec::with_capacity(tokens.len());
    // Whether the statement under way declares something, for every bracket that is open.
    let mut declares = vec![false];
    let mut tokens = tokens.into_iter().peekable();
    let is_declaration = |token: &Token<'_>| matches!(token, Token::Keyword(Keyword::Const | Keyword::Let));
    while let Some(token) = tokens.next() {
        if is_declaration(&token) {
            declares.pop();
            declares.push(true);
            joined.push(Token::Keyword(Keyword::Let));
            continue;
        }
        match token {
            Token::Char(ReservedChar::OpenParenthese | ReservedChar::OpenBracket | ReservedChar::OpenCurlyBrace) => {
                declares.push(false);
            }
            Token::Char(ReservedChar::CloseParenthese | ReservedChar::CloseBracket | ReservedChar::CloseCurlyBrace) => {
                declares.pop();
            }
            Token::Char(ReservedChar::SemiColon) => {
                let goes_on = declares.pop() == Some(true) && tokens.next_if(is_declaration).is_some();
                declares.push(goes_on);
                if goes_on {
                    joined.push(Token::Char(ReservedChar::Comma));
                    continue;
                }
            }
            _ => {}
        }
        joined.push(token);
    }
    joined.into()
}

fn style() -> Result<String, Box<dyn Error>> {
    let text = fs::read_to_string(Path::new(FROM).join("app.css"))?;
    Ok(minifier::css::minify(&text)?.to_string().replace(";}", "}"))
}
