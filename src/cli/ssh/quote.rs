//! Quoting for shells: what stands here reaches the far end's program as it is. Nothing here runs a shell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// One word for a POSIX shell.
pub(super) fn for_sh(word: &OsStr) -> Vec<u8> {
    quoted(word.as_bytes(), b"'")
}

/// `sh -c SCRIPT` for a login shell that may be sh, csh or fish, so that only `sh` ever reads the script.
///
/// Single quotes mean the same to all, but for three characters, which therefore stand outside of them behind a
/// backslash: the quote itself; the backslash, which fish takes for an escape within quotes too; and `!`, with which
/// csh recalls history. csh cannot have a newline within quotes: scripts of ours have none.
pub(super) fn sh_command(script: &[u8]) -> Vec<u8> {
    [b"sh -c ".as_slice(), &quoted(script, b"'\\!")].concat()
}

/// The name of a program on the far end: `~/` is its home folder there.
pub(super) fn program(name: &OsStr) -> Vec<u8> {
    match name.as_bytes().strip_prefix(b"~/") {
        Some(rest) => [b"\"$HOME\"/".as_slice(), &for_sh(OsStr::from_bytes(rest))].concat(),
        None => for_sh(name),
    }
}

/// Within single quotes, but for what is `special`, which is escaped outside of them.
fn quoted(bytes: &[u8], special: &[u8]) -> Vec<u8> {
    let mut word = vec![b'\''];
    for byte in bytes {
        if special.contains(byte) {
            word.extend([b'\'', b'\\', *byte, b'\'']);
        } else {
            word.push(*byte);
        }
    }
    word.push(b'\'');
    word
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What `program` gets as its arguments when a login shell runs the command that has `words` in it.
    fn as_seen(shell: &str, words: &[Vec<u8>]) -> Vec<u8> {
        let quoted = words.iter().map(|word| for_sh(OsStr::from_bytes(word)));
        let script = [b"exec printf '%s\\n'".to_vec()].into_iter().chain(quoted).collect::<Vec<_>>().join(&b' ');
        let command = sh_command(&script);
        let output = Command::new(shell).arg("-c").arg(OsStr::from_bytes(&command)).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        output.stdout
    }

    fn lines(words: &[Vec<u8>]) -> Vec<u8> {
        words.iter().flat_map(|word| [word.as_slice(), b"\n"].concat()).collect()
    }

    /// The login shells of this machine that differ in what they make of quotes.
    fn shells() -> Vec<&'static str> {
        let runs = |shell: &&str| Command::new(shell).args(["-c", "true"]).output().is_ok();
        ["sh", "bash", "dash", "zsh", "csh", "tcsh", "fish"].into_iter().filter(runs).collect()
    }

    #[test]
    fn every_login_shell_hands_on_what_was_written() {
        let words = "a b|it's|back\\slash|bang!x|\\'|end\\|$HOME|`id`|\"q\"|*|~|\\\\|!!|a\\'!b|ü|%s|{a,b}|;|&|#|-n||=x";
        let words: Vec<Vec<u8>> = words.split('|').map(|word| word.as_bytes().to_vec()).collect();
        for shell in shells() {
            let seen = as_seen(shell, &words);
            assert_eq!(seen, lines(&words), "{shell}: {}", String::from_utf8_lossy(&seen));
        }
    }

    #[test]
    fn only_a_leading_tilde_is_the_home_folder() {
        let table = [
            ("linerate", "'linerate'"),
            ("~/a b/linerate", "\"$HOME\"/'a b/linerate'"),
            ("~user/linerate", "'~user/linerate'"),
            ("/o'p/linerate", "'/o'\\''p/linerate'"),
        ];
        for (name, expected) in table {
            assert_eq!(String::from_utf8(program(OsStr::new(name))).unwrap(), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_survive_two_shells(words in prop::collection::vec(prop::collection::vec(1_u8.., 0..30), 1..6)) {
            prop_assert_eq!(as_seen("sh", &words), lines(&words));
        }
    }
}
