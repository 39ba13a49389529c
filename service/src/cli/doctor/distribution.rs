//! Which distribution this is, and how it installs things.

use std::fs;

/// The distribution.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Distribution {
    /// As it calls itself.
    pub name: String,
    family: Option<Family>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Family {
    Debian,
    Fedora,
    Arch,
    Alpine,
    Suse,
    Nix,
}

impl Distribution {
    /// By os-release(5).
    pub fn read() -> Self {
        let text = ["/etc/os-release", "/usr/lib/os-release"]
            .into_iter()
            .find_map(|path| fs::read_to_string(path).ok());
        Self::parse(&text.unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.strip_prefix('=')?.trim().trim_matches('"').to_owned())
        };
        let id = value("ID").unwrap_or_default();
        let like = value("ID_LIKE").unwrap_or_default();
        let family = std::iter::once(&*id)
            .chain(like.split_whitespace())
            .find_map(|name| match name {
                "debian" | "ubuntu" => Some(Family::Debian),
                "fedora" | "rhel" | "centos" => Some(Family::Fedora),
                "arch" => Some(Family::Arch),
                "alpine" => Some(Family::Alpine),
                "suse" | "opensuse" => Some(Family::Suse),
                "nixos" => Some(Family::Nix),
                _ => None,
            });
        Self {
            name: value("PRETTY_NAME").unwrap_or_else(|| "unknown".into()),
            family,
        }
    }

    /// The command that installs a package of this name, which all of them call the same.
    pub fn install(&self, package: &str) -> String {
        match self.family {
            Some(Family::Debian) => format!("`sudo apt install {package}`"),
            Some(Family::Fedora) => format!("`sudo dnf install {package}`"),
            Some(Family::Arch) => format!("`sudo pacman -S {package}`"),
            Some(Family::Alpine) => format!("`sudo apk add {package}`"),
            Some(Family::Suse) => format!("`sudo zypper install {package}`"),
            Some(Family::Nix) => format!("add `pkgs.{package}` to the system's packages"),
            None => format!("install the package `{package}` by this system's package manager"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_known_by_its_id_or_what_it_is_like() {
        for (text, expected) in [
            ("ID=debian\n", "`sudo apt install bubblewrap`"),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                "`sudo apt install bubblewrap`",
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                "`sudo dnf install bubblewrap`",
            ),
            ("ID=arch\n", "`sudo pacman -S bubblewrap`"),
            ("ID=alpine\n", "`sudo apk add bubblewrap`"),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                "`sudo zypper install bubblewrap`",
            ),
            (
                "",
                "install the package `bubblewrap` by this system's package manager",
            ),
        ] {
            assert_eq!(
                Distribution::parse(text).install("bubblewrap"),
                expected,
                "{text}"
            );
        }
    }
}
