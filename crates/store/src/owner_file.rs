//! The cluster that owns a store (I9), and the contents of the file OWNER, which names it:
//! `{"format":1,"system_identifier":"<decimal>","timeline":<number>,
//! "data_directory":{"inode":"<decimal>","created":"<decimal>"}}`.
//! 64-bit numbers are strings because JSON's end at 2^53.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::owner::{DataDirectory, OwnerId};

/// The file in the root that names the cluster which may vacuum the store (I9).
pub const OWNER: &str = "OWNER";

/// The format of everything in a store.
const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerFile {
    format: u64,
    system_identifier: String,
    timeline: u32,
    data_directory: DataDirectoryFile,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataDirectoryFile {
    inode: String,
    created: String,
}

/// What every format, known or not, has in common.
#[derive(Deserialize)]
struct AnyFormat {
    format: u64,
}

impl OwnerId {
    /// Parses the contents of OWNER.
    ///
    /// # Errors
    /// `UnknownFormat`, `OwnerCorrupt`.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self> {
        let unreadable = |e: serde_json::Error| corrupt(e.to_string());
        // serde would take a list for a structure.
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(unreadable)?;
        if !value.is_object() || value.get("data_directory").is_some_and(|directory| !directory.is_object()) {
            return Err(corrupt("it is not made of JSON objects".into()));
        }
        let AnyFormat { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if format != FORMAT {
            return Err(Error::UnknownFormat { path: OWNER.into(), found: format });
        }
        let file: OwnerFile = serde_json::from_slice(bytes).map_err(unreadable)?;
        Ok(Self {
            system_identifier: decimal("system identifier", &file.system_identifier)?,
            timeline: file.timeline,
            data_directory: DataDirectory {
                inode: decimal("inode", &file.data_directory.inode)?,
                created: decimal("time of creation", &file.data_directory.created)?,
            },
        })
    }

    /// The contents of OWNER.
    pub(crate) fn to_json(self) -> Result<Vec<u8>> {
        let Self { system_identifier, timeline, data_directory } = self;
        let file = OwnerFile {
            format: FORMAT,
            system_identifier: system_identifier.to_string(),
            timeline,
            data_directory: DataDirectoryFile {
                inode: data_directory.inode.to_string(),
                created: data_directory.created.to_string(),
            },
        };
        let mut json = serde_json::to_vec(&file).map_err(|e| corrupt(e.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }
}

fn decimal(what: &str, text: &str) -> Result<u64> {
    match text.parse::<u64>() {
        Ok(value) if value.to_string() == text => Ok(value),
        _ => Err(corrupt(format!("the {what} is not a decimal number"))),
    }
}

/// OWNER is not what a store writes.
pub(crate) fn corrupt(reason: String) -> Error {
    Error::OwnerCorrupt { path: OWNER.into(), reason }
}
