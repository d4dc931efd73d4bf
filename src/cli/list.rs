//! Options that hold several values: sizes, names, numbers, CPUs of both ends.

use std::str::FromStr;

use crate::units::{UnitError, parse_size_list};

/// `4KiB,64KiB`, `1KiB..4MiB`: bytes, ascending.
#[derive(Clone, Debug)]
pub(super) struct Sizes(pub(super) Vec<u64>);

impl FromStr for Sizes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        Ok(Sizes(parse_size_list(text)?.into_iter().map(|size| size.0).collect()))
    }
}

/// `write,sendfile`.
#[derive(Clone, Debug)]
pub(super) struct Names(pub(super) Vec<String>);

impl FromStr for Names {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_string()).collect();
        if names.iter().any(String::is_empty) {
            return Err("an empty name: write names with commas between them, such as write,sendfile".to_string());
        }
        Ok(Names(names))
    }
}

/// `1,4,16`.
#[derive(Clone, Debug)]
pub(super) struct Numbers(pub(super) Vec<u32>);

impl FromStr for Numbers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |item: &str| {
            item.trim().parse().map_err(|_| format!("{item:?} is no number: write numbers such as 1,4,16"))
        };
        text.split(',').map(number).collect::<Result<_, _>>().map(Numbers)
    }
}

/// `0-3`, `0,2` or, for client and server, `0/1` and `/1`.
#[derive(Clone, Debug)]
pub(super) struct CpusOfBoth {
    pub(super) client: Vec<u32>,
    pub(super) server: Vec<u32>,
}

/// Most CPUs in one list.
const CPUS_MAX: usize = 1024;

impl FromStr for CpusOfBoth {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (client, server) = text.split_once('/').unwrap_or((text, ""));
        Ok(CpusOfBoth { client: cpus(client)?, server: cpus(server)? })
    }
}

fn cpus(text: &str) -> Result<Vec<u32>, String> {
    let wrong = || format!("{text:?} is no list of CPUs: write 0,2 or 0-3, and CLIENT/SERVER for both ends");
    let mut cpus = Vec::new();
    for item in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (u32, u32) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || cpus.len() + (last - first) as usize >= CPUS_MAX {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// Settings of something that is on or off: `on`, `off`, `both`, `on,off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Switches(pub(super) Vec<bool>);

impl std::str::FromStr for Switches {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut switches = Vec::new();
        for word in text.split(',').map(str::trim) {
            match word {
                "on" => switches.push(true),
                "off" => switches.push(false),
                "both" => switches.extend([false, true]),
                _ => return Err(format!("{word:?} is none of on, off, both")),
            }
        }
        Ok(Switches(switches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_of_either_end_are_told_apart() {
        let table: [(&str, &[u32], &[u32]); 5] = [
            ("0", &[0], &[]),
            ("0/1", &[0], &[1]),
            ("/1", &[], &[1]),
            ("0-2,5/3", &[0, 1, 2, 5], &[3]),
            ("", &[], &[]),
        ];
        for (text, client, server) in table {
            let cpus: CpusOfBoth = text.parse().unwrap();
            assert_eq!((cpus.client.as_slice(), cpus.server.as_slice()), (client, server), "{text}");
        }
        for text in ["x", "1-", "3-1", "1,,2", "0-4294967295", "1/2/3"] {
            assert!(text.parse::<CpusOfBoth>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_and_numbers_are_lists() {
        assert_eq!("a, b".parse::<Names>().unwrap().0, ["a", "b"]);
        assert!("a,,b".parse::<Names>().is_err() && "1,x".parse::<Numbers>().is_err());
        assert_eq!("1, 2".parse::<Numbers>().unwrap().0, [1, 2]);
    }
}
