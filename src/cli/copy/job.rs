//! What is copied from where to where, by the places that were typed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::location::Location;
use super::stdio;
use crate::cli::exit::Misuse;
use crate::cli::host::Peer;
use crate::measure::environment;
use crate::transfer::origin::last_name;
use crate::transfer::run::{Input, Way};

/// One of the ways that a copy can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// From here to a peer.
    Push { from: Vec<PathBuf>, peer: Peer, to: Vec<u8> },
    /// From a peer to here.
    Pull { peer: Peer, from: Vec<Vec<u8>>, to: PathBuf },
    /// Within this machine.
    Local { from: Vec<PathBuf>, to: PathBuf },
    /// Standard input to one file of a peer.
    PushInput { peer: Peer, to: Vec<u8> },
    /// One file of a peer to standard output.
    PullOutput { peer: Peer, from: Vec<u8> },
    /// Standard input to one file here.
    LocalInput { to: PathBuf },
    /// One file here to standard output.
    LocalOutput { from: PathBuf },
}

impl Job {
    /// Understand sources and, last, a destination.
    pub(super) fn parse(words: &[OsString]) -> anyhow::Result<Job> {
        let mut places = words.iter().map(|word| Location::parse(word)).collect::<Result<Vec<_>, _>>()?;
        let to = places.pop().ok_or_else(|| Misuse("no destination is named".to_string()))?;
        Ok(Job::of(places, to)?)
    }

    /// Understand places.
    pub(super) fn of(from: Vec<Location>, to: Location) -> Result<Job, Misuse> {
        let one = from.len() == 1;
        match (Sources::of(from)?, to) {
            (Sources::Local(from), Location::Remote(peer, to)) => Ok(Job::Push { from, peer, to }),
            (Sources::Remote(peer, from), Location::Local(to)) => Ok(Job::Pull { peer, from, to }),
            (Sources::Local(from), Location::Local(to)) => Ok(Job::Local { from, to }),
            (Sources::Remote(..), Location::Remote(..)) => Err(Misuse(
                "both ends are remote: run linerate on one of them, or copy to this machine first".to_string(),
            )),
            (Sources::Input, Location::Remote(peer, to)) => {
                let is_file = last_name(&to).is_some() && !to.ends_with(b"/");
                if is_file { Ok(Job::PushInput { peer, to }) } else { Err(no_file_name()) }
            }
            (Sources::Input, Location::Local(to)) => {
                let bytes = to.as_os_str().as_bytes();
                let is_file = last_name(bytes).is_some() && !bytes.ends_with(b"/");
                if is_file { Ok(Job::LocalInput { to }) } else { Err(no_file_name()) }
            }
            (Sources::Remote(peer, mut from), Location::Stdio) if one => {
                Ok(Job::PullOutput { peer, from: from.remove(0) })
            }
            (Sources::Local(mut from), Location::Stdio) if one => Ok(Job::LocalOutput { from: from.remove(0) }),
            (Sources::Input, Location::Stdio) => {
                Err(Misuse("-: standard input to standard output is what cat does".to_string()))
            }
            (_, Location::Stdio) => Err(Misuse("-: only one file can go to standard output".to_string())),
        }
    }
}

fn no_file_name() -> Misuse {
    Misuse("standard input becomes one file: name it in the destination".to_string())
}

/// All sources of a copy are of one kind.
enum Sources {
    Input,
    Local(Vec<PathBuf>),
    Remote(Peer, Vec<Vec<u8>>),
}

impl Sources {
    fn of(places: Vec<Location>) -> Result<Sources, Misuse> {
        if places == [Location::Stdio] {
            return Ok(Sources::Input);
        }
        let (mut local, mut remote, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for place in places {
            match place {
                Location::Stdio => {
                    return Err(Misuse("-: standard input cannot be one of several sources".to_string()));
                }
                Location::Local(path) => local.push(path),
                Location::Remote(peer, path) => {
                    remote.push(path);
                    if !peers.contains(&peer) {
                        peers.push(peer);
                    }
                }
            }
        }
        match (local.is_empty(), peers.len()) {
            (_, 0) => Ok(Sources::Local(local)),
            (true, 1) => Ok(Sources::Remote(peers.remove(0), remote)),
            (true, _) => Err(Misuse("the sources are at several peers: copy from one after the other".to_string())),
            (false, _) => Err(Misuse("some sources are here and some at a peer: copy one after the other".to_string())),
        }
    }
}

/// The peer of `linerate put`, which may stand there without a path.
pub(super) fn put_target(word: &OsStr) -> anyhow::Result<Location> {
    let place = Location::parse(word)?;
    let is_path = word.as_bytes().contains(&b'/');
    match (&place, word.to_str()) {
        (Location::Local(_), Some(text)) if !is_path => {
            let peer = text.parse().map_err(Misuse)?;
            Ok(Location::Remote(peer, Vec::new()))
        }
        (Location::Remote(..), _) => Ok(place),
        _ => Err(Misuse(format!("{}: no peer: write PEER or PEER:PATH", word.display())).into()),
    }
}

/// A push of these files; the label is the same whenever they are named in whatever way.
pub(super) fn push(from: Vec<PathBuf>, to: Vec<u8>) -> Way {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_else(|_| environment::host().into_bytes());
    let mut label = machine.trim_ascii().to_vec();
    for path in &from {
        label.push(0);
        label.extend(absolute(path));
    }
    Way::Push { from, input: None, to, label }
}

/// A push of standard input, which was put into this file. It is never the same again: nor is its label.
pub(super) fn push_input(file: Arc<File>, to: Vec<u8>, run: [u8; 16]) -> Way {
    let input = Some(Input { file, name: stdio::NAME.into() });
    Way::Push { from: vec!["-".into()], input, to, label: run.to_vec() }
}

/// Where a path leads from the root on, as far as that is known without looking.
fn absolute(path: &Path) -> Vec<u8> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut bytes = whole.into_os_string().into_encoded_bytes();
    // Content without a name is another copy than the folder with its name.
    if last_name(path.as_os_str().as_bytes()).is_none() {
        bytes.extend(b"/.");
    }
    bytes
}

/// A pull of these files of a peer with that name.
pub(super) fn pull(peer: &str, from: Vec<Vec<u8>>, to: PathBuf) -> Way {
    let names = from.iter().map(|path| last_name(path).map(<[u8]>::to_vec)).collect();
    let label = [&[peer.as_bytes().to_vec()], from.as_slice()].concat().join(&0);
    Way::Pull { from, names, to, label }
}

/// A path of a peer where paths begin at the user's home: `~` is that.
pub(super) fn from_home(path: Vec<u8>) -> Vec<u8> {
    match path.as_slice() {
        b"~" | b"~/" => Vec::new(),
        _ => path.strip_prefix(b"~/").map(<[u8]>::to_vec).unwrap_or(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::host::Host;

    fn job(words: &[&str]) -> Result<Job, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Job::parse(&words).map_err(|error| error.to_string())
    }

    fn nas() -> Peer {
        Peer::Either(Host { name: "nas".to_string(), port: None })
    }

    #[test]
    fn the_places_say_which_way_it_goes() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let table = [
            (&["a", "b", "nas:c"][..], Job::Push { from: vec!["a".into(), "b".into()], peer: nas(), to: bytes("c") }),
            (&["nas:a", "nas:b", "c"], Job::Pull { peer: nas(), from: vec![bytes("a"), bytes("b")], to: "c".into() }),
            (&["a", "b"], Job::Local { from: vec!["a".into()], to: "b".into() }),
            (&["-", "nas:a"], Job::PushInput { peer: nas(), to: bytes("a") }),
            (&["nas:a", "-"], Job::PullOutput { peer: nas(), from: bytes("a") }),
            (&["-", "a"], Job::LocalInput { to: "a".into() }),
            (&["a", "-"], Job::LocalOutput { from: "a".into() }),
        ];
        for (words, wanted) in table {
            assert_eq!(job(words), Ok(wanted), "{words:?}");
        }
        let wrong = [
            (&["nas:a", "nas:b"][..], "both ends are remote"),
            (&["nas:a", "other:b", "c"], "several peers"),
            (&["nas:a", "b", "c"], "some sources are here"),
            (&["-", "a", "nas:c"], "standard input cannot"),
            (&["-", "nas:"], "name it"),
            (&["-", "nas:a/"], "name it"),
            (&["-", "."], "name it"),
            (&["a", "b", "-"], "only one file"),
            (&["-", "-"], "cat"),
        ];
        for (words, why) in wrong {
            assert!(job(words).unwrap_err().contains(why), "{words:?}");
        }
    }

    #[test]
    fn a_peer_to_put_to_may_have_no_path() {
        let target = |word: &str| put_target(OsStr::new(word)).ok();
        assert_eq!(target("nas"), Some(Location::Remote(nas(), Vec::new())));
        assert_eq!(target("nas:a"), Some(Location::Remote(nas(), b"a".to_vec())));
        assert!(matches!(target("me@nas"), Some(Location::Remote(Peer::Ssh(_), path)) if path.is_empty()));
        assert!(target("./a").is_none() && target("-").is_none() && target("a/b").is_none());
    }

    #[test]
    fn labels_stay_the_same_and_tell_copies_apart() {
        let of_push = |path: &str| match push(vec![path.into()], Vec::new()) {
            Way::Push { label, .. } | Way::Pull { label, .. } => label,
        };
        let here = std::env::current_dir().unwrap();
        assert_eq!(of_push("a"), of_push(&here.join("a").display().to_string()));
        assert_ne!(of_push("a"), of_push("a/."));
        assert_ne!(of_push("a"), of_push("b"));
        let of_pull = |peer: &str, path: &str| match pull(peer, vec![path.into()], PathBuf::new()) {
            Way::Push { label, .. } | Way::Pull { label, .. } => label,
        };
        assert_eq!(of_pull("nas", "a"), of_pull("nas", "a"));
        assert_ne!(of_pull("nas", "a"), of_pull("other", "a"));
    }

    #[test]
    fn a_tilde_is_the_home() {
        for (typed, path) in [("~", ""), ("~/", ""), ("~/a", "a"), ("a/~", "a/~"), ("~a", "~a"), ("/a", "/a")] {
            assert_eq!(from_home(typed.into()), path.as_bytes(), "{typed}");
        }
    }
}
