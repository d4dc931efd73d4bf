//! Owner, extended attributes, mode and time of what has landed, through the open file.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use super::LandingOptions;
use crate::proto::manifest::Attributes;
use crate::store::StoreError;
use crate::sys::xattr;

/// What no copy gives without the owner: the rights of a program's owner would be those of whoever copies.
const MODE_WITHOUT_OWNER: u32 = 0o777;
/// All permission bits.
const MODE_WITH_OWNER: u32 = 0o7777;

/// Set all that belongs to a file or folder. The owner goes first, since that takes set-uid and capabilities away;
/// the time goes last, since all else may change it.
pub(super) fn set(file: &File, name: &str, wanted: &Attributes, options: &LandingOptions) -> Result<(), StoreError> {
    let failed = |what| move |error: Errno| StoreError::system(name, what, error);
    if let Some((user, group)) = owner(wanted, options) {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        fchown(file, user, group).map_err(failed("cannot be given to its owner: run as root, or leave owners out"))?;
    }
    if options.xattrs {
        wanted.xattrs.iter().try_for_each(|(key, value)| set_xattr(file, name, (key, value), options))?;
    }
    let mode = wanted.mode & if options.owner { MODE_WITH_OWNER } else { MODE_WITHOUT_OWNER };
    fchmod(file, Mode::from_bits_truncate(mode)).map_err(failed("cannot be given its mode"))?;
    futimens(file, &TimeSpec::UTIME_OMIT, &time(wanted)).map_err(failed("cannot be given its time"))
}

/// The owner, where it is to be set.
pub(super) fn owner(wanted: &Attributes, options: &LandingOptions) -> Option<(u32, u32)> {
    if options.owner { wanted.owner } else { None }
}

/// When it was modified.
pub(super) fn time(wanted: &Attributes) -> TimeSpec {
    TimeSpec::new(wanted.modified_s, wanted.modified_ns.min(999_999_999).into())
}

fn set_xattr(
    file: &File,
    name: &str,
    (key, value): (&[u8], &[u8]),
    options: &LandingOptions,
) -> Result<(), StoreError> {
    // `security.` holds capabilities, which are a set-uid by another name; `trusted.` is for root's own tools.
    let is_plain = key.starts_with(b"user.") || key.starts_with(b"system.posix_acl_");
    if !is_plain && !options.owner {
        return Ok(());
    }
    let key = CString::new(key).map_err(|_| StoreError::unfit(name, "an extended attribute's name holds a NUL"))?;
    xattr::set(file.as_fd(), &key, value)
        .map_err(|error| StoreError::system(name, "cannot be given its extended attributes", error))
}
