//! Whom ssh is to connect to: `[user@]host`. Which address that is, is ssh's own business and that of its config.

/// What a shell would act on: ssh hands names to the user's `ProxyCommand` and `Match exec`.
const OF_A_SHELL: &str = "'`\"$\\;&<>|(){}";

/// A host that ssh knows, and as whom to log in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The login name; without one ssh and its config decide.
    pub user: Option<String>,
    /// A host name, an address, or an alias of the ssh config.
    pub host: String,
}

impl std::str::FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no host for ssh: {why}: write [USER@]HOST");
        // The last one: a login name can hold an @, a host cannot.
        let (user, host) = text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        for (part, what) in [(user, "user"), (Some(host), "host")] {
            let Some(part) = part else { continue };
            if part.is_empty() {
                return Err(wrong(&format!("the {what} is empty")));
            }
            // ssh would read it as an option, such as -oProxyCommand=, which runs programs.
            if part.starts_with('-') {
                return Err(wrong(&format!("the {what} begins with -")));
            }
            let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
            // A login name of a domain has a backslash: DOMAIN\user.
            let is_of_a_shell = |c: char| OF_A_SHELL.contains(c) && !(what == "user" && c == '\\');
            if let Some(c) = part.chars().find(|c| is_odd(*c) || is_of_a_shell(*c)) {
                return Err(wrong(&format!("the {what} has {c:?} in it")));
            }
        }
        Ok(Target { user: user.map(str::to_string), host: host.to_string() })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_host_are_told_apart() {
        let table = [
            ("nas", None, "nas"),
            ("me@nas", Some("me"), "nas"),
            ("me@corp@nas", Some("me@corp"), "nas"),
            ("CORP\\me@nas", Some("CORP\\me"), "nas"),
            ("me@192.0.2.1", Some("me"), "192.0.2.1"),
            ("me@[2001:db8::1]", Some("me"), "2001:db8::1"),
            ("fe80::1%eth0", None, "fe80::1%eth0"),
        ];
        for (text, user, host) in table {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.user.as_deref(), target.host.as_str()), (user, host), "{text}");
            assert_eq!(target.to_string().parse::<Target>(), Ok(target));
        }
    }

    #[test]
    fn what_ssh_would_take_for_something_else_is_refused() {
        let table = [
            "",
            "@",
            "@nas",
            "me@",
            "-nas",
            "me@-nas",
            "-oProxyCommand=x@nas",
            "me@-oProxyCommand=x",
            "a b",
            "a b@nas",
            "me@na\ts",
            "na\u{7}s",
            "me\n@nas",
            "me@$(id)",
            "me@`id`",
            "m;e@nas",
            "ssh://nas",
            "me@[-x]",
            "me@[]",
            "nas\u{a0}",
        ];
        for text in table {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains("[USER@]HOST") && !error.contains(char::is_control), "{text:?}: {error}");
        }
    }
}
