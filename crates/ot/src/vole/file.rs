//! Set-up material on the disk, one file for each (client, model) on either side.
//!
//! The *fingerprint* is a hash of all that the punctures depend on (weights and plan). A file for
//! another one does not load: trees are never punctured anew, so changed weights need a new set-up.
//! A file appears under its name only when it is whole and durable, and is readable by its owner only.
//! It is as secret as what it was made of, but no state: copies do no harm beyond that.
//!
//! ```text
//! "cpv-vole"  version:u8  party:u8  fingerprint:32  id:32  runs:u64  (groups:u64 depth:u64)*
//! holder: delta:16 root:16*    puncturer: leaf:u16*  sibling:16*    both: BLAKE3 of all:32
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::tree::{Roots, Siblings};
use super::{Depths, HolderTrees, PuncturedTrees};
use crate::Secret;
use crate::store::{private, sync_folder};

const MAGIC: &[u8; 8] = b"cpv-vole";
const VERSION: u8 = 1;
const HOLDER: u8 = b'H';
const PUNCTURER: u8 = b'P';
const HEADER: u64 = 8 + 2 + 32 + 32 + 8;
const CHECK: u64 = 32;

/// Why set-up material cannot be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The disk failed, or there is no such file.
    #[error("packed VOLE set-up: {0}")]
    Io(#[from] io::Error),
    /// Another kind of file, or another version or party.
    #[error("packed VOLE set-up: the file has another {what}; set up anew")]
    Foreign {
        /// What differs.
        what: &'static str,
    },
    /// The weights or the plan have changed since the set-up.
    #[error("packed VOLE set-up: made for other weights or another plan; set up anew with the peer")]
    Fingerprint,
    /// The file is not what was written.
    #[error("packed VOLE set-up: the file is damaged; set up anew with the peer")]
    Damaged,
}

impl HolderTrees {
    /// Writes the set-up for a model and client with this fingerprint.
    pub fn save(&self, path: &Path, fingerprint: &[u8; 32]) -> Result<(), FileError> {
        write(path, |file| {
            file.header(HOLDER, fingerprint, &self.id, &self.depths)?;
            file.put(&self.part.delta.to_le_bytes())?;
            file.put(bytemuck::cast_slice(&self.part.roots))
        })
    }

    /// Reads what [`Self::save`] has written.
    pub fn load(path: &Path, fingerprint: &[u8; 32]) -> Result<Self, FileError> {
        let (mut file, id, depths) = Reader::open(path, HOLDER, fingerprint)?;
        file.due(16 * (1 + depths.groups() as u64))?;
        let mut delta = Zeroizing::new([0; 16]);
        file.get(&mut *delta)?;
        let roots = file.blocks(depths.groups())?;
        file.finish()?;
        let delta = Zeroizing::new(u128::from_le_bytes(*delta));
        Ok(Self::new(depths, id, Roots { delta, roots }))
    }
}

impl PuncturedTrees {
    /// Writes the set-up for a model and client with this fingerprint.
    pub fn save(&self, path: &Path, fingerprint: &[u8; 32]) -> Result<(), FileError> {
        write(path, |file| {
            file.header(PUNCTURER, fingerprint, &self.id, &self.depths)?;
            file.put(bytemuck::cast_slice(&self.part.leaves))?;
            file.put(bytemuck::cast_slice(&self.part.siblings))
        })
    }

    /// Reads what [`Self::save`] has written.
    pub fn load(path: &Path, fingerprint: &[u8; 32]) -> Result<Self, FileError> {
        let (mut file, id, depths) = Reader::open(path, PUNCTURER, fingerprint)?;
        file.due(2 * depths.groups() as u64 + 16 * depths.levels() as u64)?;
        let mut leaves = Secret::zeros(depths.groups());
        file.get(bytemuck::cast_slice_mut(&mut leaves))?;
        let siblings = file.blocks(depths.levels())?;
        file.finish()?;
        Ok(Self::new(depths, id, Siblings { leaves, siblings }))
    }
}

/// Writes a file under a temporary name, and names it when it is durable.
fn write(path: &Path, body: impl FnOnce(&mut Writer) -> Result<(), FileError>) -> Result<(), FileError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&partial)?;
    let mut writer = Writer { file: BufWriter::new(file), hasher: hasher() };
    body(&mut writer)?;
    let check = writer.hasher.finalize();
    writer.file.write_all(check.as_bytes())?;
    let file = writer.file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(sync_folder(folder.unwrap_or(Path::new(".")))?)
}

fn hasher() -> blake3::Hasher {
    blake3::Hasher::new_derive_key("copriv-ot v1 vole file")
}

struct Writer {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    fn header(
        &mut self,
        party: u8,
        fingerprint: &[u8; 32],
        id: &[u8; 32],
        depths: &Depths,
    ) -> Result<(), FileError> {
        self.put(MAGIC)?;
        self.put(&[VERSION, party])?;
        self.put(fingerprint)?;
        self.put(id)?;
        self.put(&(depths.runs().len() as u64).to_le_bytes())?;
        for run in depths.runs() {
            self.put(&(run.groups as u64).to_le_bytes())?;
            self.put(&(run.depth as u64).to_le_bytes())?;
        }
        Ok(())
    }
}

struct Reader {
    file: BufReader<File>,
    hasher: blake3::Hasher,
    /// Bytes left, without the final hash.
    left: u64,
}

impl Reader {
    /// Opens a file and reads its header: identifier and depths.
    fn open(path: &Path, party: u8, fingerprint: &[u8; 32]) -> Result<(Self, [u8; 32], Depths), FileError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let left = len.checked_sub(HEADER + CHECK).ok_or(FileError::Damaged)?;
        let mut reader = Self { file: BufReader::new(file), hasher: hasher(), left };
        let (mut magic, mut kind) = ([0; 8], [0; 2]);
        reader.read(&mut magic)?;
        reader.read(&mut kind)?;
        if &magic != MAGIC {
            return Err(FileError::Foreign { what: "format" });
        }
        if kind[0] != VERSION {
            return Err(FileError::Foreign { what: "version" });
        }
        if kind[1] != party {
            return Err(FileError::Foreign { what: "party" });
        }
        let (mut theirs, mut id, mut runs) = ([0; 32], [0; 32], [0; 8]);
        reader.read(&mut theirs)?;
        if &theirs != fingerprint {
            return Err(FileError::Fingerprint);
        }
        reader.read(&mut id)?;
        reader.read(&mut runs)?;
        let mut depths = Depths::new();
        for _ in 0..u64::from_le_bytes(runs) {
            let (mut groups, mut depth) = ([0; 8], [0; 8]);
            reader.get(&mut groups)?;
            reader.get(&mut depth)?;
            // Groups are bounded by the file's length, at no less than 16 bytes each.
            let groups = u64::from_le_bytes(groups);
            let fits = depths.groups() as u64 <= len && groups <= len;
            let depth = u32::try_from(u64::from_le_bytes(depth)).ok();
            let pushed = fits.then(|| depths.push(groups as usize, depth?).ok()).flatten();
            pushed.ok_or(FileError::Damaged)?;
        }
        Ok((reader, id, depths))
    }

    /// Checks that exactly this much is left, before anything of that size is allocated.
    fn due(&self, bytes: u64) -> Result<(), FileError> {
        if self.left == bytes { Ok(()) } else { Err(FileError::Damaged) }
    }

    /// Reads a piece that has been counted.
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), FileError> {
        self.file.read_exact(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn get(&mut self, bytes: &mut [u8]) -> Result<(), FileError> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(FileError::Damaged)?;
        self.read(bytes)
    }

    fn blocks(&mut self, n: usize) -> Result<Secret<u128>, FileError> {
        let mut blocks = Secret::zeros(n);
        self.get(bytemuck::cast_slice_mut(&mut blocks))?;
        Ok(blocks)
    }

    /// Checks the hash.
    fn finish(mut self) -> Result<(), FileError> {
        let mut check = [0; CHECK as usize];
        self.file.read_exact(&mut check)?;
        if self.hasher.finalize() == check { Ok(()) } else { Err(FileError::Damaged) }
    }
}
