//! Owner, extended attributes, mode and time of what has landed, through the open file.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use super::{LandingOptions, shown};
use crate::proto::manifest::{Attributes, Entry};
use crate::store::StoreError;
use crate::store::confined::{RelativePath, Root};
use crate::sys::xattr;

/// What no copy gives without the owner: the rights of a program's owner would be those of whoever copies.
const MODE_WITHOUT_OWNER: u32 = 0o777;
const CANNOT_SET: &str = "cannot be given its extended attributes";
/// To be read and written by its owner.
pub(super) const OWNER_ONLY: u32 = 0o600;
/// All permission bits.
const MODE_WITH_OWNER: u32 = 0o7777;

/// Set all that belongs to a file or folder. The owner goes first, since that takes set-uid and capabilities away;
/// the time goes last, since all else may change it.
///
/// `mode` is what it has, where that is known.
pub(super) fn set(file: &File, entry: &Entry, mode: Option<u32>, options: &LandingOptions) -> Result<(), StoreError> {
    let wanted = &entry.attributes;
    let failed = |what| move |error: Errno| StoreError::system(&shown(entry), what, error);
    if let Some((user, group)) = owner(wanted, options) {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        fchown(file, user, group).map_err(failed("cannot be given to its owner: run as root, or leave owners out"))?;
    }
    if options.xattrs {
        wanted.xattrs.iter().try_for_each(|(key, value)| set_xattr(file, entry, (key, value), options))?;
    }
    let is_plain = !options.owner && !options.xattrs;
    let wanted_mode = self::mode(wanted, options);
    if !is_plain || mode != Some(wanted_mode) {
        fchmod(file, Mode::from_bits_truncate(wanted_mode)).map_err(failed("cannot be given its mode"))?;
    }
    futimens(file, &TimeSpec::UTIME_OMIT, &time(wanted)).map_err(failed("cannot be given its time"))
}

/// The permission bits that it is to have.
pub(super) fn mode(wanted: &Attributes, options: &LandingOptions) -> u32 {
    wanted.mode & if options.owner { MODE_WITH_OWNER } else { MODE_WITHOUT_OWNER }
}

/// The permission bits to make a file with whose mode is set when it is whole: those that it will have, if it is this
/// user's and he can open it again, and else his alone.
pub(super) fn mode_to_create(wanted: &Attributes, options: &LandingOptions) -> u32 {
    let mode = wanted.mode & MODE_WITHOUT_OWNER;
    if options.owner || options.xattrs || mode & OWNER_ONLY != OWNER_ONLY { OWNER_ONLY } else { mode }
}

/// The owner, where it is to be set.
pub(super) fn owner(wanted: &Attributes, options: &LandingOptions) -> Option<(u32, u32)> {
    if options.owner { wanted.owner } else { None }
}

/// When it was modified.
pub(super) fn time(wanted: &Attributes) -> TimeSpec {
    TimeSpec::new(wanted.modified_s, wanted.modified_ns.min(999_999_999).into())
}

/// Set what a symbolic link can have: an owner, extended attributes, and a time, in the order of [`set`].
pub(super) fn set_of_symlink(
    root: &Root,
    path: &RelativePath,
    entry: &Entry,
    options: &LandingOptions,
) -> Result<(), StoreError> {
    let wanted = &entry.attributes;
    root.describe_symlink(path, owner(wanted, options), time(wanted)).map_err(|error| error.about(&shown(entry)))?;
    if !options.xattrs || wanted.xattrs.is_empty() {
        return Ok(());
    }
    // A handle of the link itself, whose name in /proc leads to it and no further. The time stays as it is.
    let link = root.hold(path)?;
    wanted.xattrs.iter().filter(|(key, _)| is_ours(key, options)).try_for_each(|(key, value)| {
        xattr::set_of_held(link.as_fd(), &c_key(entry, key)?, value)
            .map_err(|error| StoreError::system(&shown(entry), CANNOT_SET, error))
    })
}

pub(super) fn set_xattr(
    file: &File,
    entry: &Entry,
    (key, value): (&[u8], &[u8]),
    options: &LandingOptions,
) -> Result<(), StoreError> {
    if !is_ours(key, options) {
        return Ok(());
    }
    xattr::set(file.as_fd(), &c_key(entry, key)?, value)
        .map_err(|error| StoreError::system(&shown(entry), CANNOT_SET, error))
}

/// `security.` holds capabilities, which are a set-uid by another name; `trusted.` is for root's own tools.
pub(super) fn is_ours(key: &[u8], options: &LandingOptions) -> bool {
    options.owner || key.starts_with(b"user.") || key.starts_with(b"system.posix_acl_")
}

fn c_key(entry: &Entry, key: &[u8]) -> Result<CString, StoreError> {
    CString::new(key).map_err(|_| StoreError::unfit(&shown(entry), "an extended attribute's name holds a NUL"))
}
