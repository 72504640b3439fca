//! A store of offline material: numbered items, each used once.
//!
//! Both parties number their items alike, a *generation* at a time (one set-up between the same
//! two parties). Items are used in rising order: taking item `i` uses up all below it too, so the
//! whole state of what is used is one number that only grows.
//!
//! # The crash rule
//! **An item is marked as used, durably, before [`Store::take`] returns it**, and so before any
//! byte that depends on it can be sent. The mark is a checksummed record appended to a log and
//! flushed to the disk. Whatever the moment of a crash, the item under way is afterwards either
//! still unused and never seen by anybody, or used up; it may be lost, it is not used twice. A lock
//! on the log keeps two processes from opening one store. Items kept in memory die with the process.
//!
//! # What it cannot do
//! A directory that is copied, restored from a backup, or part of a virtual machine that is
//! rolled back brings its used items back. Keep stores out of backups. Files are overwritten
//! before they are removed, which flash storage may ignore; they are readable by their owner only.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::Secret;

mod log;

use log::Log;

/// Why a store refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk failed.
    #[error("offline store: {0}")]
    Io(#[from] io::Error),
    /// Another process has the store open.
    #[error("offline store: open in another process")]
    Locked,
    /// The directory holds material of another set-up.
    #[error("offline store: the directory belongs to another generation")]
    Generation,
    /// The item was used up, or its number passed.
    #[error("offline store: item {item} is used up (next is {next})")]
    Used {
        /// The number asked for.
        item: u64,
        /// The lowest number not used up.
        next: u64,
    },
    /// There is no such item here.
    #[error("offline store: no item {item}")]
    Missing {
        /// The number asked for.
        item: u64,
    },
    /// An item was put twice.
    #[error("offline store: item {item} is there already")]
    Duplicate {
        /// Its number.
        item: u64,
    },
    /// The memory limit is reached and there is no directory to spill to.
    #[error("offline store: full ({limit} bytes)")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// An item's file is not what was written.
    #[error("offline store: item {item} is damaged")]
    Damaged {
        /// Its number.
        item: u64,
    },
}

/// Points between which a crash is tested.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    PutStarts,
    ItemWritten,
    ItemDurable,
    ItemNamed,
    PutDone,
    TakeStarts,
    MarkWritten,
    MarkDurable,
    ItemLoaded,
    ItemRemoved,
}

type Observer = Box<dyn FnMut(Step) + Send>;

/// Numbered items, each used once. See the [module documentation](self).
pub struct Store {
    disk: Option<Disk>,
    limit: usize,
    in_memory: usize,
    items: BTreeMap<u64, Item>,
    next: u64,
    observer: Option<Observer>,
}

enum Item {
    Memory(Secret<u8>),
    Disk,
}

struct Disk {
    folder: PathBuf,
    log: Log,
}

impl Store {
    /// A store in memory only, of at most `limit` bytes.
    pub fn in_memory(limit: usize) -> Self {
        Self { disk: None, limit, in_memory: 0, items: BTreeMap::new(), next: 0, observer: None }
    }

    /// A store that keeps `limit` bytes in memory and spills what is more to `folder`, where it
    /// finds the items of earlier runs that are still unused.
    pub fn open(folder: &Path, generation: &[u8; 32], limit: usize) -> Result<Self, StoreError> {
        create_private_folder(folder)?;
        let log = Log::open(&folder.join("used"), generation)?;
        let mut store = Self {
            next: log.next(),
            disk: Some(Disk { folder: folder.to_owned(), log }),
            ..Self::in_memory(limit)
        };
        store.find_items()?;
        Ok(store)
    }

    /// Adds item `item`, whose number no item has had before.
    pub fn put(&mut self, item: u64, bytes: Secret<u8>) -> Result<(), StoreError> {
        self.step(Step::PutStarts);
        if item < self.next {
            let next = self.next;
            return Err(StoreError::Used { item, next });
        }
        if self.items.contains_key(&item) {
            return Err(StoreError::Duplicate { item });
        }
        if self.in_memory + bytes.len() <= self.limit {
            self.in_memory += bytes.len();
            self.items.insert(item, Item::Memory(bytes));
        } else {
            self.spill(item, &bytes)?;
            self.items.insert(item, Item::Disk);
        }
        self.step(Step::PutDone);
        Ok(())
    }

    /// Takes item `item` and uses up all below it. The mark is durable before this returns.
    pub fn take(&mut self, item: u64) -> Result<Secret<u8>, StoreError> {
        self.step(Step::TakeStarts);
        if item < self.next {
            let next = self.next;
            return Err(StoreError::Used { item, next });
        }
        if !self.items.contains_key(&item) {
            return Err(StoreError::Missing { item });
        }
        self.mark(item)?;
        let skipped = self.items.keys().copied().take_while(|&i| i < item);
        for skipped in skipped.collect::<Vec<_>>() {
            self.load(skipped)?;
        }
        self.load(item)
    }

    /// The lowest number not used up.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The numbers of the items at hand, rising.
    pub fn available(&self) -> impl Iterator<Item = u64> + '_ {
        self.items.keys().copied()
    }

    /// Bytes of items in memory.
    pub fn memory(&self) -> usize {
        self.in_memory
    }

    /// Calls `observer` at each step, for tests of the crash rule.
    #[doc(hidden)]
    pub fn observe(&mut self, observer: impl FnMut(Step) + Send + 'static) {
        self.observer = Some(Box::new(observer));
    }

    fn step(&mut self, step: Step) {
        if let Some(observer) = &mut self.observer {
            observer(step);
        }
    }

    fn mark(&mut self, item: u64) -> Result<(), StoreError> {
        // In memory first: should the disk fail, the item is not offered again.
        self.next = item + 1;
        if let Some(disk) = &mut self.disk {
            disk.log.append(item + 1)?;
            self.step(Step::MarkWritten);
        }
        if let Some(disk) = &mut self.disk {
            disk.log.sync()?;
            self.step(Step::MarkDurable);
        }
        Ok(())
    }

    /// Removes an item that has been marked.
    fn load(&mut self, item: u64) -> Result<Secret<u8>, StoreError> {
        debug_assert!(item < self.next);
        match (self.items.remove(&item), &self.disk) {
            (Some(Item::Memory(bytes)), _) => {
                self.in_memory -= bytes.len();
                Ok(bytes)
            }
            (Some(Item::Disk), Some(disk)) => {
                let path = disk.path(item);
                let bytes = read_item(&path, item);
                self.step(Step::ItemLoaded);
                erase(&path)?;
                self.step(Step::ItemRemoved);
                bytes
            }
            _ => Err(StoreError::Missing { item }),
        }
    }

    fn spill(&mut self, item: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(disk) = &self.disk else {
            return Err(StoreError::Full { limit: self.limit });
        };
        let (folder, path) = (disk.folder.clone(), disk.path(item));
        let partial = path.with_extension("partial");
        let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&partial)?;
        file.write_all(bytes)?;
        file.write_all(&checksum(item, bytes))?;
        self.step(Step::ItemWritten);
        file.sync_all()?;
        self.step(Step::ItemDurable);
        fs::rename(&partial, &path)?;
        self.step(Step::ItemNamed);
        sync_folder(&folder)?;
        Ok(())
    }

    /// Finds the unused items on the disk, and removes what is used up or was never finished.
    fn find_items(&mut self) -> Result<(), StoreError> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        for entry in fs::read_dir(&disk.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(rest) = name.and_then(|name| name.strip_prefix("item-")) else {
                continue;
            };
            match rest.parse::<u64>() {
                Ok(item) if item >= self.next => {
                    self.items.insert(item, Item::Disk);
                }
                _ => erase(&path)?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("next", &self.next)
            .field("items", &self.items.len())
            .field("in_memory", &self.in_memory)
            .finish_non_exhaustive()
    }
}

impl Disk {
    fn path(&self, item: u64) -> PathBuf {
        self.folder.join(format!("item-{item}"))
    }
}

fn read_item(path: &Path, item: u64) -> Result<Secret<u8>, StoreError> {
    let mut file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).map_err(|_| StoreError::Damaged { item })?;
    let mut bytes = Secret::with_capacity(len);
    file.read_to_end(&mut bytes)?;
    let Some(end) = bytes.len().checked_sub(32) else {
        return Err(StoreError::Damaged { item });
    };
    if checksum(item, &bytes[..end]) != bytes[end..] {
        return Err(StoreError::Damaged { item });
    }
    bytes.truncate(end);
    Ok(bytes)
}

fn checksum(item: u64, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 stored item");
    hasher.update(&item.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize().into()
}

/// Overwrites and removes a file.
fn erase(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    let zeros = [0; 1 << 16];
    while left > 0 {
        let n = left.min(zeros.len() as u64);
        file.write_all(&zeros[..n as usize])?;
        left -= n;
    }
    fs::remove_file(path)
}

/// Makes a rename durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// For the owner only.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Takes the lock that the file's process keeps until it ends.
fn lock(file: &File) -> Result<(), StoreError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::Locked,
        TryLockError::Error(error) => error.into(),
    })
}
