//! Which entries of a tree are wanted: globs on paths, types, times and sizes.
//!
//! # The rules, in full
//! - An entry that an **exclude** pattern matches is left out, a folder with all that is in it: it is not entered.
//! - If there are **include** patterns, a file or link must match one of them, or lie in a folder that does. Folders
//!   are entered whether they match or not, since what is in them may.
//! - Exclude beats include, and the order of the patterns means nothing.
//! - **Types**, **sizes** and **newer** judge regular files only; folders pass, and links pass unless types are asked
//!   for, of which a link is none.
//!
//! # Patterns
//! | pattern | matches |
//! |---|---|
//! | `*.tmp` | without a `/`: the last name, at any depth |
//! | `/build`, `src/*.rs` | with a `/`: the whole path, from each source on |
//! | `cache/` | with a `/` at the end: folders only |
//! | `**/x/*`, `[a-z]?`, `{a,b}` | `**` crosses folders, `*` and `?` do not; `\` takes away a meaning |
//!
//! Names are bytes: `*` matches any, UTF-8 or not, and so does `?` match one **byte**. Case matters. Nothing here asks a
//! filesystem: whoever has a file lends its first bytes when they are needed.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use super::confined::{Kind, Metadata};
use super::media::{self, MediaKind, SNIFF_BYTES};
use crate::text::printable_str;

/// A pattern that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It has a fault.
    #[error("the pattern {pattern}: {why}: write one such as '*.tmp', '/build' or 'cache/'")]
    Pattern {
        /// The pattern, fit to show.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are too many of them, or they are too large together.
    #[error("the patterns are too much together: {0}: write fewer or simpler ones")]
    TooMuch(String),
    /// Nothing can pass.
    #[error("no file can be at least {min} and at most {max} bytes long: swap --min-size and --max-size")]
    NoSize {
        /// The least length, bytes.
        min: u64,
        /// The greatest length, bytes.
        max: u64,
    },
}

/// What a person asks for; nothing of it lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRules {
    /// Patterns of which a file must match one.
    pub include: Vec<String>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// The types of files that are wanted.
    pub kinds: Vec<MediaKind>,
    /// Only files that were modified after this: seconds of Unix time, and nanoseconds.
    pub newer: Option<(i64, u32)>,
    /// Length of the largest file that is wanted, bytes.
    pub max_size: Option<u64>,
    /// Length of the smallest file that is wanted, bytes.
    pub min_size: Option<u64>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is wanted; a folder is entered.
    Taken,
    /// It is not; a folder is not entered.
    LeftOut,
}

/// What is known of all entries of a folder from the folders above them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// An include pattern matches one of these.
    pub is_included: bool,
}

/// Rules, ready for use; threads share one.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Option<Globs>,
    exclude: Option<Globs>,
    rules: FilterRules,
}

impl Filter {
    /// Prepare rules; a pattern with a fault is named.
    pub fn new(rules: FilterRules) -> Result<Filter, FilterError> {
        if let (Some(min), Some(max)) = (rules.min_size, rules.max_size)
            && min > max
        {
            return Err(FilterError::NoSize { min, max });
        }
        Ok(Filter { include: Globs::new(&rules.include)?, exclude: Globs::new(&rules.exclude)?, rules })
    }

    /// Whether an entry is wanted, from its path and what is known of it; `first` fills in up to [`SNIFF_BYTES`] of
    /// its first bytes, and is asked only if nothing else tells the type. Judges the folders above as well: a scan,
    /// which has judged them, asks the other functions.
    pub fn matches(
        &self,
        path: &[u8],
        metadata: &Metadata,
        first: impl FnOnce(&mut [u8; SNIFF_BYTES]) -> usize,
    ) -> Verdict {
        let mut within = Within::default();
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            match self.enters(&path[..at], within) {
                Some(deeper) => within = deeper,
                None => return Verdict::LeftOut,
            }
        }
        let is_taken = match metadata.kind {
            Kind::Directory => self.enters(path, within).is_some(),
            Kind::File => self.takes_name(path, within) && self.takes_content(path, metadata, first),
            Kind::Symlink => self.takes_name(path, within) && self.takes_links(),
            _ => self.takes_name(path, within),
        };
        if is_taken { Verdict::Taken } else { Verdict::LeftOut }
    }

    /// Whether a folder is wanted and entered, and what its entries then lie within.
    pub fn enters(&self, path: &[u8], above: Within) -> Option<Within> {
        if self.exclude.as_ref().is_some_and(|globs| globs.match_path(path, true)) {
            return None;
        }
        let matches = || self.include.as_ref().is_some_and(|globs| globs.match_path(path, true));
        Some(Within { is_included: above.is_included || matches() })
    }

    /// Whether the patterns let pass what is no folder.
    pub fn takes_name(&self, path: &[u8], above: Within) -> bool {
        if self.exclude.as_ref().is_some_and(|globs| globs.match_path(path, false)) {
            return false;
        }
        above.is_included || self.include.as_ref().is_none_or(|globs| globs.match_path(path, false))
    }

    /// Whether links are wanted at all.
    pub fn takes_links(&self) -> bool {
        self.rules.kinds.is_empty()
    }

    /// Whether times, sizes and types let a regular file pass; `first` as for [`Filter::matches`].
    pub fn takes_content(
        &self,
        path: &[u8],
        metadata: &Metadata,
        first: impl FnOnce(&mut [u8; SNIFF_BYTES]) -> usize,
    ) -> bool {
        let rules = &self.rules;
        let fits = rules.newer.is_none_or(|time| (metadata.modified_s, metadata.modified_ns) > time)
            && rules.max_size.is_none_or(|max| metadata.len <= max)
            && rules.min_size.is_none_or(|min| metadata.len >= min);
        fits && (rules.kinds.is_empty()
            || media::classify(path, first).is_some_and(|found| rules.kinds.contains(&found.kind)))
    }
}

/// Patterns, sorted by what they are compared with.
#[derive(Clone, Debug)]
struct Globs {
    /// With the last name.
    names: GlobSet,
    /// With the whole path.
    paths: GlobSet,
    /// The same, of folders only.
    folder_names: GlobSet,
    folder_paths: GlobSet,
}

impl Globs {
    /// Nothing if there are no patterns.
    fn new(patterns: &[String]) -> Result<Option<Globs>, FilterError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let mut sets: [GlobSetBuilder; 4] = std::array::from_fn(|_| GlobSetBuilder::new());
        for pattern in patterns {
            let (rest, is_for_folders) = match pattern.strip_suffix('/') {
                Some(rest) => (rest, true),
                None => (pattern.as_str(), false),
            };
            let is_path = rest.contains('/');
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            let fault = |why: String| FilterError::Pattern { pattern: printable_str(pattern), why };
            if rest.is_empty() {
                return Err(fault("names nothing".to_string()));
            }
            let built = GlobBuilder::new(rest).literal_separator(true).backslash_escape(true).build();
            let glob = built.map_err(|error| fault(printable_str(&error.kind().to_string())))?;
            sets[usize::from(is_path) + 2 * usize::from(is_for_folders)].add(glob);
        }
        let [names, paths, folder_names, folder_paths] = sets.map(|set| set.build());
        let whole = |set: Result<GlobSet, globset::Error>| {
            set.map_err(|error| FilterError::TooMuch(printable_str(&error.kind().to_string())))
        };
        Ok(Some(Globs {
            names: whole(names)?,
            paths: whole(paths)?,
            folder_names: whole(folder_names)?,
            folder_paths: whole(folder_paths)?,
        }))
    }

    fn match_path(&self, path: &[u8], is_folder: bool) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let matches =
            |set: &GlobSet, bytes: &[u8]| !set.is_empty() && set.is_match_candidate(&Candidate::from_bytes(bytes));
        matches(&self.names, name)
            || matches(&self.paths, path)
            || (is_folder && (matches(&self.folder_names, name) || matches(&self.folder_paths, path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(kind: Kind, len: u64) -> Metadata {
        Metadata {
            kind,
            len,
            mode: 0o644,
            modified_s: 1000,
            modified_ns: 5,
            device: 1,
            inode: 1,
            links: 1,
            uid: 0,
            gid: 0,
            blocks: 8,
        }
    }

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let own = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        Filter::new(FilterRules { include: own(include), exclude: own(exclude), ..FilterRules::default() }).unwrap()
    }

    fn takes(filter: &Filter, path: &[u8]) -> bool {
        let (path, kind) = match path.strip_suffix(b"/") {
            Some(path) => (path, Kind::Directory),
            None => (path, Kind::File),
        };
        filter.matches(path, &metadata(kind, 10), |_| unreachable!()) == Verdict::Taken
    }

    /// Include, exclude, a path (with `/` at its end: a folder), whether it is taken.
    type Case = (&'static [&'static str], &'static [&'static str], &'static [u8], bool);

    #[test]
    fn patterns_mean_what_the_table_says() {
        let table: [Case; 38] = [
            (&[], &[], b"anything", true),
            (&[], &["*.tmp"], b"a.tmp", false),
            (&[], &["*.tmp"], b"a/b/c.tmp", false),
            (&[], &["*.tmp"], b"a.tmp/inside", false),
            (&[], &["*.tmp"], b"a.tmpx", true),
            (&[], &["*.tmp"], b"\xff\xfe.tmp", false),
            (&[], &["*.tmp"], b"new\nline.tmp", false),
            (&[], &["/build"], b"build", false),
            (&[], &["/build"], b"build/a", false),
            (&[], &["/build"], b"src/build", true),
            (&[], &["src/*.rs"], b"src/a.rs", false),
            (&[], &["src/*.rs"], b"src/a/b.rs", true),
            (&[], &["src/*.rs"], b"x/src/a.rs", true),
            (&[], &["src/**/*.rs"], b"src/a/b.rs", false),
            (&[], &["**/b/c"], b"a/b/c", false),
            (&[], &["cache/"], b"a/cache/", false),
            (&[], &["cache/"], b"a/cache/x", false),
            (&[], &["cache/"], b"a/cache", true),
            (&[], &["/cache/"], b"a/cache/", true),
            (&[], &["/a/cache/"], b"a/cache/", false),
            (&[], &["[ab]?.{x,y}"], b"bc.y", false),
            (&[], &["[ab]?.{x,y}"], b"cc.y", true),
            (&[], &["\\*"], b"*", false),
            (&[], &["\\*"], b"a", true),
            (&[], &["?"], b"\xff", false),
            (&[], &["*"], b"a", false),
            (&["*.mp4"], &[], b"a/b.mp4", true),
            (&["*.mp4"], &[], b"a/b.txt", false),
            (&["*.mp4"], &[], b"a/", true),
            (&["*.mp4"], &["a"], b"a/b.mp4", false),
            (&["*.mp4"], &["b*"], b"a/b.mp4", false),
            (&["photos/"], &[], b"x/photos/deep/a.txt", true),
            (&["photos/"], &[], b"photos", false),
            (&["photos"], &[], b"photos/a", true),
            (&["photos/"], &["*.tmp"], b"photos/a.tmp", false),
            (&["/a/b"], &[], b"a/b/c/d", true),
            (&["/a/b"], &[], b"a/c", false),
            (&["*.a", "*.b"], &[], b"x.b", true),
        ];
        for (include, exclude, path, expected) in table {
            let said = format!("+{include:?} -{exclude:?} {}", path.escape_ascii());
            assert_eq!(takes(&filter(include, exclude), path), expected, "{said}");
        }
    }

    #[test]
    fn a_pattern_with_a_fault_is_named() {
        for bad in ["[a", "{a", "", "/", "//", "a\u{1b}[", "[z-a]"] {
            let rules = FilterRules { exclude: vec!["fine".into(), bad.into()], ..FilterRules::default() };
            match Filter::new(rules) {
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains(&printable_str(bad)) && !said.contains('\u{1b}'), "{said}");
                    assert!(!said.contains("fine"), "{said}");
                }
                Ok(_) => assert_eq!(bad, "//", "accepted"),
            }
        }
    }

    #[test]
    fn sizes_times_and_types_judge_files_only() {
        let rules = FilterRules {
            kinds: vec![MediaKind::Text, MediaKind::Image],
            newer: Some((1000, 4)),
            max_size: Some(20),
            min_size: Some(10),
            ..FilterRules::default()
        };
        let filter = Filter::new(rules.clone()).unwrap();
        let judge = |filter: &Filter, path: &str, kind, len| {
            let text = |first: &mut [u8; SNIFF_BYTES]| {
                first[0] = b'x';
                1
            };
            filter.matches(path.as_bytes(), &metadata(kind, len), text) == Verdict::Taken
        };
        let table = [
            ("a.txt", Kind::File, 10, true),
            ("a.txt", Kind::File, 20, true),
            ("a.txt", Kind::File, 9, false),
            ("a.txt", Kind::File, 21, false),
            ("a.png", Kind::File, 15, true),
            ("a.mp4", Kind::File, 15, false),
            ("no extension", Kind::File, 15, true),
            ("a.mp4", Kind::Directory, 4096, true),
            ("a.txt", Kind::Symlink, 15, false),
        ];
        for (path, kind, len, expected) in table {
            assert_eq!(judge(&filter, path, kind, len), expected, "{path} {kind:?} {len}");
        }
        let older = Filter::new(FilterRules { newer: Some((1000, 5)), ..rules.clone() }).unwrap();
        assert!(!judge(&older, "a.txt", Kind::File, 10));
        let any = Filter::new(FilterRules { kinds: Vec::new(), ..rules }).unwrap();
        assert!(judge(&any, "link", Kind::Symlink, 1000));
    }

    #[test]
    fn bounds_that_nothing_fits_are_refused() {
        let rules = FilterRules { min_size: Some(2), max_size: Some(1), ..FilterRules::default() };
        assert!(Filter::new(rules).unwrap_err().to_string().contains("swap"));
    }
}
