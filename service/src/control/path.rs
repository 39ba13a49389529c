//! Paths on the wire, whatever bytes a session gives them: text where they are UTF-8, else their
//! bytes. What cannot be said would not be recorded.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Wire {
    Text(String),
    Bytes(Vec<u8>),
}

/// For `#[serde(with)]` on a path.
pub mod one {
    use super::*;

    pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        Wire::from(path).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Wire::deserialize(from).map(PathBuf::from)
    }
}

/// For `#[serde(with)]` on several.
pub mod several {
    use super::*;

    pub fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| Wire::from(&**path)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        let all = Vec::<Wire>::deserialize(from)?;
        Ok(all.into_iter().map(PathBuf::from).collect())
    }
}

impl From<&Path> for Wire {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.into()),
            None => Self::Bytes(path.as_os_str().as_bytes().into()),
        }
    }
}

impl From<Wire> for PathBuf {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Text(text) => text.into(),
            Wire::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use crate::control::{Ask, frame};

    use super::*;

    #[test]
    fn a06_a_path_of_any_bytes_arrives_as_it_was() {
        let odd = PathBuf::from(OsStr::from_bytes(b"/p/\xff.sock"));
        let all = vec![odd.clone(), "/p/plain".into(), "/p/[1]".into()];
        let mut frame = frame::encode(&Ask::Deleted { paths: all.clone() }).unwrap();
        let Some(Ask::Deleted { paths }) = frame::decode(&mut frame).unwrap() else {
            panic!("another question");
        };
        assert_eq!(paths, all);
        let (path, why) = (odd, String::new());
        let ask = Ask::RefusedSocket { path, why };
        let mut frame = frame::encode(&ask).unwrap();
        let Some(Ask::RefusedSocket { path, .. }) = frame::decode(&mut frame).unwrap() else {
            panic!("another question");
        };
        assert_eq!(path, all[0]);
    }
}
