//! The folders in which things are kept, by the XDG Base Directory Specification.
//!
//! Only which they are and that they are private. What stands in them is in the other files of [`super`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{TrustError, private_file};

/// The name of our folder in each of the user's.
const NAME: &str = "linerate";

/// Where things are kept. The folders are made when something is written into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What must outlast a restart and is of this machine: identity, tickets given out.
    pub state: PathBuf,
    /// What the user decided: peers.
    pub config: PathBuf,
    /// What lasts as long as a login.
    pub runtime: PathBuf,
}

impl Places {
    /// As the environment says: XDG_STATE_HOME, XDG_CONFIG_HOME, XDG_RUNTIME_DIR, else below HOME.
    pub fn from_env() -> Result<Places, TrustError> {
        Places::from_variables(|name| std::env::var_os(name))
    }

    /// The same for variables from elsewhere.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Places, TrustError> {
        // The specification: a relative path is as good as none.
        let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let place = |name: &'static str, below_home: &str| {
            let folder = absolute(name).or_else(|| absolute("HOME").map(|home| home.join(below_home)));
            folder.map(|folder| folder.join(NAME)).ok_or(TrustError::NoPlace(name))
        };
        let state = place("XDG_STATE_HOME", ".local/state")?;
        let config = place("XDG_CONFIG_HOME", ".config")?;
        // Without a login session (a system service, a container) there is no such folder.
        let runtime = absolute("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |folder| folder.join(NAME));
        Ok(Places { state, config, runtime })
    }

    /// All three below one folder.
    pub fn below(folder: &Path) -> Places {
        Places { state: folder.join("state"), config: folder.join("config"), runtime: folder.join("run") }
    }

    /// The folder of what copies keep to go on later; it is there and private.
    pub fn copies(&self) -> Result<PathBuf, TrustError> {
        let folder = self.state.join("copies");
        private_file::make_folder(&folder)?;
        Ok(folder)
    }

    /// The folder of the receipts of copies; it is there and private.
    pub fn receipts(&self) -> Result<PathBuf, TrustError> {
        let folder = self.state.join("receipts");
        private_file::make_folder(&folder)?;
        Ok(folder)
    }

    /// The folder of uploads that a virus scan did not let through; it is there and private.
    pub fn quarantine(&self) -> Result<PathBuf, TrustError> {
        let folder = self.state.join("quarantine");
        private_file::make_folder(&folder)?;
        Ok(folder)
    }

    /// The path of a file of the state, whose folder is there and private.
    pub(super) fn state_file(&self, name: &str) -> Result<PathBuf, TrustError> {
        file_in(&self.state, name)
    }

    /// The path of a file of the runtime folder, which is there and private.
    pub(super) fn runtime_file(&self, name: &str) -> Result<PathBuf, TrustError> {
        file_in(&self.runtime, name)
    }
}

fn file_in(folder: &Path, name: &str) -> Result<PathBuf, TrustError> {
    private_file::make_folder(folder)?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Result<Places, TrustError> {
        let value = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        Places::from_variables(value)
    }

    #[test]
    fn each_folder_is_where_the_specification_says() {
        let all =
            [("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        let of = |state: &str, config: &str, runtime: &str| Places {
            state: state.into(),
            config: config.into(),
            runtime: runtime.into(),
        };
        let home = of("/h/.local/state/linerate", "/h/.config/linerate", "/h/.local/state/linerate/run");
        assert_eq!(places(&all).unwrap(), of("/s/linerate", "/c/linerate", "/run/user/7/linerate"));
        assert_eq!(places(&all[1..]).unwrap(), places(&all).unwrap());
        assert_eq!(places(&all[..1]).unwrap(), home);
        let relative = [("HOME", "/h"), ("XDG_STATE_HOME", "s"), ("XDG_CONFIG_HOME", ""), ("XDG_RUNTIME_DIR", "./r")];
        assert_eq!(places(&relative).unwrap(), home);
    }

    #[test]
    fn without_a_home_it_says_what_to_set() {
        for (variables, name) in [
            (&[][..], "XDG_STATE_HOME"),
            (&[("HOME", "")], "XDG_STATE_HOME"),
            (&[("HOME", "h")], "XDG_STATE_HOME"),
            (&[("XDG_STATE_HOME", "/s")], "XDG_CONFIG_HOME"),
        ] {
            let message = places(variables).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("set HOME"), "{message}");
        }
    }
}
