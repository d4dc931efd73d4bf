//! Which C library this program needs to run.

/// The version of the GNU C library that runs this program, such as `2.36`; `None` when it carries its C library
/// with it (musl, or linked statically).
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
pub fn glibc_version() -> Option<String> {
    // SAFETY: it returns a string of the library that ends in NUL, is never changed and lives as long as we do.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_str().ok().map(str::to_string)
}

/// The version of the GNU C library that runs this program: none, it carries its C library with it.
#[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
pub fn glibc_version() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_version_is_numbers_with_dots() {
        let version = super::glibc_version();
        assert_eq!(version.is_some(), cfg!(all(target_env = "gnu", not(target_feature = "crt-static"))));
        let part = |part: &str| part.parse::<u32>().is_ok();
        assert!(version.is_none_or(|version| version.split('.').take(2).filter(|p| part(p)).count() == 2));
    }
}
