//! The log of what is used: a header with the generation, then checksummed records of the lowest
//! unused number. Records are only appended; a torn last one is one that nobody waited for.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{StoreError, lock, private};

const HEADER: usize = 32 + CHECK;
const RECORD: usize = 8 + CHECK;
const CHECK: usize = 16;

pub(super) struct Log {
    file: File,
    generation: [u8; 32],
    next: u64,
}

impl Log {
    /// Opens or creates a log, and takes its lock.
    pub(super) fn open(path: &Path, generation: &[u8; 32]) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = private(&mut options).open(path)?;
        lock(&file)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut log = Self { file, generation: *generation, next: 0 };
        let good = match bytes.split_at_checked(HEADER) {
            Some((header, records)) => {
                if header != log.header() {
                    return Err(StoreError::Generation);
                }
                HEADER + log.read(records)
            }
            // A header cut short: nothing was ever stored here.
            None => 0,
        };
        log.file.set_len(good as u64)?;
        log.file.seek(SeekFrom::Start(good as u64))?;
        if good == 0 {
            let header = log.header();
            log.file.write_all(&header)?;
        }
        log.file.sync_all()?;
        if let Some(folder) = path.parent() {
            super::sync_folder(folder)?;
        }
        Ok(log)
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn append(&mut self, next: u64) -> Result<(), StoreError> {
        let mut record = next.to_le_bytes().to_vec();
        record.extend(self.check(b"record", &next.to_le_bytes()));
        self.file.write_all(&record)?;
        self.next = next;
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        Ok(self.file.sync_data()?)
    }

    /// Reads whole good records; gives their length.
    fn read(&mut self, records: &[u8]) -> usize {
        let mut good = 0;
        for record in records.chunks_exact(RECORD) {
            let (next, check) = record.split_at(8);
            if self.check(b"record", next) != check {
                break;
            }
            let next = u64::from_le_bytes(next.try_into().expect("eight bytes"));
            self.next = self.next.max(next);
            good += RECORD;
        }
        good
    }

    fn header(&self) -> Vec<u8> {
        let mut header = self.generation.to_vec();
        header.extend(self.check(b"header", &[]));
        header
    }

    fn check(&self, what: &[u8; 6], bytes: &[u8]) -> [u8; CHECK] {
        let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 store log");
        hasher.update(what);
        hasher.update(&self.generation);
        hasher.update(bytes);
        let mut check = [0; CHECK];
        hasher.finalize_xof().fill(&mut check);
        check
    }
}
