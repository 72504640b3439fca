//! The arguments that name data, and those of `copriv data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Which images.
#[derive(Args, Clone, Debug)]
pub struct Data {
    /// Data set: fashion-mini (embedded), cifar10, cifar100, mnist, fashion-mnist, folder or folder-SIDE
    #[arg(long, default_value = copriv_train::data::EMBEDDED)]
    pub dataset: String,
    /// Folder that holds the data sets that are not embedded
    #[arg(long, default_value = "data")]
    pub data_dir: PathBuf,
}

#[derive(Args, Debug)]
pub struct DataCommand {
    #[command(subcommand)]
    pub what: DataVerb,
}

#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// The data sets, and whether they are there
    #[command(after_help = "Example: copriv data list")]
    List(DataDir),
    /// Checksums, layout and labels of a data set
    #[command(after_help = "Example: copriv data check cifar10")]
    Check {
        /// Data set
        name: String,
        #[command(flatten)]
        dir: DataDir,
    },
    /// Bring a data set; a download that broke off is gone on with
    #[command(after_help = "Example: copriv data fetch cifar10 --from cifar-10-binary.tar.gz")]
    Fetch {
        /// Data set
        name: String,
        /// An address or a local path of the archive, or of the folder with the files [default: the publisher's]
        #[arg(long)]
        from: Option<String>,
        #[command(flatten)]
        dir: DataDir,
    },
}

/// Where data sets lie.
#[derive(Args, Clone, Debug)]
pub struct DataDir {
    /// Folder that holds the data sets
    #[arg(long, default_value = "data")]
    pub data_dir: PathBuf,
}
