//! Brings data sets: downloads that go on where they broke off, checksums, unpacking.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::idx;
use crate::TrainError;

/// Name of the list of checksums beside the files.
const SUMS: &str = "SHA256SUMS";
/// Kept while reading and hashing.
const CHUNK: usize = 1 << 16;

/// A data set that can be fetched.
#[derive(Clone, Debug)]
pub struct Source {
    /// Name, as on the command line.
    pub name: &'static str,
    /// Folder below the data folder.
    pub folder: &'static str,
    /// Where its files lie, with a slash at the end.
    pub base: String,
    /// Name and published MD5 of each.
    pub files: Vec<(&'static str, &'static str)>,
    /// One archive that holds `folder`, instead of the files themselves.
    pub archive: bool,
}

/// Every data set that can be fetched; checksums as their publishers (CIFAR's page, torchvision)
/// give them.
pub fn sources() -> Vec<Source> {
    let archive = |name, folder, file, md5| Source {
        name,
        folder,
        base: "https://www.cs.toronto.edu/~kriz/".into(),
        files: vec![(file, md5)],
        archive: true,
    };
    let idx = |name, base: &str, md5: [&'static str; 4]| Source {
        name,
        folder: name,
        base: base.into(),
        files: idx::ZIPPED.into_iter().zip(md5).collect(),
        archive: false,
    };
    vec![
        archive(
            "cifar10",
            "cifar-10-batches-bin",
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
        ),
        archive(
            "cifar100",
            "cifar-100-binary",
            "cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
        ),
        idx(
            "mnist",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            [
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ],
        ),
        idx(
            "fashion-mnist",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            [
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ],
        ),
    ]
}

impl Source {
    /// The one called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self, TrainError> {
        sources().into_iter().find(|s| s.name == name).ok_or_else(|| TrainError::Dataset {
            name: name.to_owned(),
            known: sources().iter().map(|s| s.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Brings the data set below `dir`: from `from`, an address or a local path of the archive or
    /// of the folder that holds the files, or else from its publisher. A download that broke off is
    /// gone on with; nothing appears under its final name before its checksum is right.
    ///
    /// # Errors
    /// An address that does not answer, a wrong checksum, or the disk's.
    pub fn fetch(&self, dir: &Path, from: Option<&str>) -> Result<(), TrainError> {
        let folder = dir.join(self.folder);
        if folder.join(SUMS).exists() {
            return check_sums(self.name, &folder).map(drop);
        }
        fs::create_dir_all(dir).map_err(TrainError::io(dir))?;
        let staging = dir.join(format!("{}.part", self.folder));
        if self.archive {
            let (file, md5) = self.files[0];
            let packed = dir.join(format!("{file}.part"));
            self.bring(&self.address(from, file), &packed, md5)?;
            self.unpack(&packed, &staging)?;
            fs::remove_file(&packed).map_err(TrainError::io(&packed))?;
        } else {
            fs::create_dir_all(&staging).map_err(TrainError::io(&staging))?;
            for (file, md5) in &self.files {
                self.bring(&self.address(from, file), &staging.join(file), md5)?;
            }
        }
        write_sums(&staging)?;
        fs::rename(&staging, &folder).map_err(TrainError::io(&folder))
    }

    /// Where `file` is taken from.
    fn address(&self, from: Option<&str>, file: &str) -> String {
        match from {
            Some(from) if from.ends_with(file) => from.to_owned(),
            Some(from) => format!("{}/{file}", from.trim_end_matches('/')),
            None => format!("{}{file}", self.base),
        }
    }

    fn bring(&self, address: &str, to: &Path, md5: &str) -> Result<(), TrainError> {
        let fail = |reason: String| TrainError::data(self.name, address, reason);
        if !to.exists() || hash::<Md5>(to)? != md5 {
            if address.starts_with("http://") || address.starts_with("https://") {
                download(address, to).map_err(|e| fail(format!("{e}; run the command again to go on")))?;
            } else {
                let path = address.strip_prefix("file://").unwrap_or(address);
                fs::copy(path, to).map_err(|e| fail(e.to_string()))?;
            }
            let got = hash::<Md5>(to)?;
            if got != md5 {
                // What is wrong from its start cannot be completed.
                fs::remove_file(to).map_err(TrainError::io(to))?;
                return Err(fail(format!("its MD5 is {got}, published is {md5}")));
            }
        }
        Ok(())
    }

    /// Regular files of the archive below `folder/`, into `staging`.
    fn unpack(&self, packed: &Path, staging: &Path) -> Result<(), TrainError> {
        let fail = |e: io::Error| TrainError::data(self.name, packed, format!("cannot be unpacked ({e})"));
        if staging.exists() {
            fs::remove_dir_all(staging).map_err(TrainError::io(staging))?;
        }
        fs::create_dir_all(staging).map_err(TrainError::io(staging))?;
        let file = BufReader::new(File::open(packed).map_err(TrainError::io(packed))?);
        let mut archive = tar::Archive::new(GzDecoder::new(file));
        for entry in archive.entries().map_err(fail)? {
            let mut entry = entry.map_err(fail)?;
            let path = entry.path().map_err(fail)?.into_owned();
            let inside = path.strip_prefix(self.folder).ok().and_then(|p| p.to_str());
            // Only files that lie directly in the folder: no way out of it.
            if let Some(name) = inside.filter(|n| !n.is_empty() && !n.contains(['/', '\\']) && *n != "..")
                && entry.header().entry_type().is_file()
            {
                let to = staging.join(name);
                let mut out = File::create(&to).map_err(TrainError::io(&to))?;
                io::copy(&mut entry, &mut out).map_err(fail)?;
            }
        }
        Ok(())
    }
}

/// Appends to `to` what it lacks of the document at `url`.
fn download(url: &str, to: &Path) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let mut file = OpenOptions::new().create(true).append(true).open(to).map_err(|e| text(&e))?;
    let have = file.seek(SeekFrom::End(0)).map_err(|e| text(&e))?;
    let mut request = ureq::get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = match request.call() {
        // Nothing is missing; the checksum decides.
        Err(ureq::Error::StatusCode(416)) => return Ok(()),
        other => other.map_err(|e| text(&e))?,
    };
    if response.status().as_u16() != 206 {
        // The whole document again.
        file.set_len(0).map_err(|e| text(&e))?;
    }
    io::copy(&mut response.into_body().into_reader(), &mut file).map_err(|e| text(&e))?;
    file.flush().map_err(|e| text(&e))
}

/// Lower-case hexadecimal digest of a file.
fn hash<D: Digest>(path: &Path) -> Result<String, TrainError> {
    let mut file = File::open(path).map_err(TrainError::io(path))?;
    let mut digest = D::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk).map_err(TrainError::io(path))? {
            0 => return Ok(digest.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            n => digest.update(&chunk[..n]),
        }
    }
}

fn write_sums(folder: &Path) -> Result<(), TrainError> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .map_err(TrainError::io(folder))?;
    files.sort();
    let mut list = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        list += &format!("{}  {name}\n", hash::<Sha256>(&file)?);
    }
    Ok(copriv_model::file::write_whole(&folder.join(SUMS), list.as_bytes())?)
}

/// Checks the files in `folder` against the list beside them: how many there are, or `None`
/// without a list.
///
/// # Errors
/// The first file that is absent or differs.
pub fn check_sums(name: &str, folder: &Path) -> Result<Option<usize>, TrainError> {
    let list = folder.join(SUMS);
    if !list.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&list).map_err(TrainError::io(&list))?;
    for line in text.lines() {
        let (sum, file) = line
            .split_once("  ")
            .ok_or_else(|| TrainError::data(name, &list, format!("`{line}` is no checksum and name")))?;
        let path = folder.join(file);
        let got = hash::<Sha256>(&path)?;
        if got != sum {
            return Err(TrainError::data(name, path, format!("its SHA-256 is {got}, {SUMS} says {sum}")));
        }
    }
    Ok(Some(text.lines().count()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn leak(text: String) -> &'static str {
        Box::leak(text.into_boxed_str())
    }

    fn md5(bytes: &[u8]) -> &'static str {
        leak(Md5::digest(bytes).iter().map(|b| format!("{b:02x}")).collect())
    }

    fn archive() -> Vec<u8> {
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        for (name, text) in [("set/a.bin", "first"), ("set/b.bin", "second"), ("elsewhere/c.bin", "third")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn source(base: &str, bytes: &[u8]) -> Source {
        Source {
            name: "set",
            folder: "set",
            base: base.into(),
            files: vec![("set.tar.gz", md5(bytes))],
            archive: true,
        }
    }

    /// Answers `answers` requests: the first breaks off after `cut` bytes. Returns the ranges asked for.
    fn serve(bytes: Vec<u8>, cut: usize, answers: usize) -> (String, thread::JoinHandle<Vec<Option<usize>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut ranges = Vec::new();
            for answer in 0..answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut from = None;
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap().to_lowercase();
                    if line.is_empty() {
                        break;
                    }
                    if let Some(range) = line.strip_prefix("range: bytes=") {
                        from = Some(range.trim_end_matches('-').parse().unwrap());
                    }
                }
                let rest = &bytes[from.unwrap_or(0)..];
                let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    rest.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(if answer == 0 { &rest[..cut.min(rest.len())] } else { rest }).unwrap();
                ranges.push(from);
            }
            ranges
        });
        (base, server)
    }

    #[test]
    fn a_download_that_broke_off_is_gone_on_with() {
        let bytes = archive();
        let (base, server) = serve(bytes.clone(), 50, 2);
        let dir = tempfile::tempdir().unwrap();
        let source = source(&base, &bytes);
        let error = source.fetch(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("set.tar.gz") && error.contains("again"), "{error}");
        assert!(!dir.path().join("set").exists());
        source.fetch(dir.path(), None).unwrap();
        assert_eq!(server.join().unwrap(), [None, Some(50)]);
        assert_eq!(fs::read_to_string(dir.path().join("set/b.bin")).unwrap(), "second");
        // What lies outside the folder stays outside, and nothing else is left.
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["set"]);
        assert_eq!(check_sums("set", &dir.path().join("set")).unwrap(), Some(2));
    }

    #[test]
    fn a_local_archive_is_checked_like_any_other() {
        let bytes = archive();
        let dir = tempfile::tempdir().unwrap();
        let local = dir.path().join("set.tar.gz");
        fs::write(&local, &bytes).unwrap();
        let data = dir.path().join("data");
        let source = source("http://127.0.0.1:9/", &bytes);
        source.fetch(&data, Some(&format!("file://{}", local.display()))).unwrap();
        // A second time there is nothing to do.
        source.fetch(&data, None).unwrap();
        fs::write(data.join("set/a.bin"), "forged").unwrap();
        let error = source.fetch(&data, None).unwrap_err().to_string();
        assert!(error.contains("a.bin") && error.contains("SHA-256"), "{error}");

        fs::write(&local, &bytes[1..]).unwrap();
        let other = dir.path().join("other");
        let error = source.fetch(&other, local.to_str()).unwrap_err().to_string();
        assert!(error.contains("MD5") && !other.join("set").exists(), "{error}");
        assert!(Source::named("imagenet").unwrap_err().to_string().contains("cifar100"));
    }
}
