//! Makes a file system of a tree, by the programs that are made for it.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::error::ImageError;
use crate::manifest::Format;
use crate::tool::{self, Need, Toolbox};
use crate::tree::{Tree, write};

const SQFSTAR: Need = Need("sqfstar", "squashfs-tools");
const MKFS_EROFS: Need = Need("mkfs.erofs", "erofs-utils");
const MKE2FS: Need = Need("mke2fs", "e2fsprogs");
const UNSHARE: Need = Need("unshare", "util-linux");
/// File systems have an id; ours is one for all, so that equal trees make equal bytes.
const UUID: &str = "1d9a0f3e-6b50-4b5c-8a41-696d70756c73";
/// The room that an ext4 file system has beside its files, in bytes and as a share of them.
const EXT4_ROOM: (u64, u64) = (48 * 1024 * 1024, 4);
/// The bytes of an inode and of a block of ext4, which each entry may take beside its contents.
const EXT4_ENTRY: u64 = 256 + 4096;

/// What packing a format takes; asked before anything else is done.
pub(crate) fn require(format: Format, tools: &Toolbox) -> Result<(), ImageError> {
    match format {
        Format::Squashfs => tools.require(&[SQFSTAR]),
        Format::Erofs => tools.require(&[MKFS_EROFS]),
        Format::Ext4 => tools.require(&[MKE2FS, UNSHARE]),
        Format::Oci => Ok(()),
    }
}

/// Makes a file system below `folder`; `time` is that of everything in it, in seconds since 1970.
pub(crate) fn pack(
    tree: &Tree,
    format: Format,
    time: u64,
    (folder, tools): (&Path, &Toolbox),
) -> Result<PathBuf, ImageError> {
    let image = folder.join(format!("image.{format}"));
    match format {
        Format::Squashfs => squashfs(tree, time, &image, tools)?,
        Format::Erofs => erofs(tree, time, &image, tools)?,
        Format::Ext4 => ext4(tree, time, &image, tools)?,
        // Made in memory of a tree's archive; see `oci`.
        Format::Oci => {}
    }
    Ok(image)
}

/// Writes the tree as a tar archive beside the image.
pub(crate) fn archive(tree: &Tree, time: u64, path: &Path) -> Result<(), ImageError> {
    let failed = || ImageError::io("writing", path);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed())?);
    write::archive(tree, time, &mut file).map_err(failed())?;
    std::io::Write::flush(&mut file).map_err(failed())
}

fn squashfs(tree: &Tree, time: u64, image: &Path, tools: &Toolbox) -> Result<(), ImageError> {
    let tar = image.with_extension("tar");
    archive(tree, time, &tar)?;
    let mut command = tools.command(SQFSTAR.0);
    // 128 KiB is the size at which reading a small part of a file does not inflate much besides.
    command.args(["-comp", "zstd", "-b", "128K", "-no-xattrs", "-quiet", "-no-progress"]);
    // The root itself is not taken from the archive.
    command.args(["-root-mode", "0755", "-root-uid", "0", "-root-gid", "0"]);
    let time = time.to_string();
    command.args(["-mkfs-time", &time, "-all-time", &time]).arg(image);
    command.env_remove("SOURCE_DATE_EPOCH");
    command.stdin(Stdio::from(File::open(&tar).map_err(ImageError::io("reading", &tar))?));
    tool::run(&mut command, None, |_| {})?;
    std::fs::remove_file(&tar).map_err(ImageError::io("removing", &tar))
}

fn erofs(tree: &Tree, time: u64, image: &Path, tools: &Toolbox) -> Result<(), ImageError> {
    let root = unpacked(tree, time, image)?;
    let mut command = tools.command(MKFS_EROFS.0);
    // Not compressed: the compressor is not in every build of the tool, and pages are mapped as they are.
    command.arg(format!("-T{time}")).arg("-U").arg(UUID).arg("--all-root").arg("-x-1");
    command.arg(image).arg(root.path());
    tool::run(&mut command, None, |_| {})
}

fn ext4(tree: &Tree, time: u64, image: &Path, tools: &Toolbox) -> Result<(), ImageError> {
    let root = unpacked(tree, time, image)?;
    let bytes = tree.bytes() + tree.bytes() / EXT4_ROOM.1 + EXT4_ROOM.0 + EXT4_ENTRY * tree.len() as u64;
    let is_root = rustix::process::geteuid().is_root();
    let mut command = tools.command(if is_root { MKE2FS.0 } else { UNSHARE.0 });
    if !is_root {
        // Files belong to their owner as mke2fs sees it, so it has to see the superuser.
        command.arg("--map-root-user").arg(tools.find(MKE2FS.0).unwrap_or_else(|| MKE2FS.0.into()));
    }
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", "impuls", "-U", UUID, "-d"]).arg(root.path());
    command.args(["-E", &format!("root_owner=0:0,lazy_itable_init=0,hash_seed={UUID}")]);
    command.env("E2FSPROGS_FAKE_TIME", time.to_string());
    command.arg(image).arg(format!("{}k", bytes.div_ceil(1024)));
    tool::run(&mut command, None, |_| {})
}

/// The tree as a folder, for programs that read nothing else. Removed by drop.
fn unpacked(tree: &Tree, time: u64, image: &Path) -> Result<tempfile::TempDir, ImageError> {
    let parent = image.parent().unwrap_or(Path::new("."));
    let root = tempfile::tempdir_in(parent).map_err(ImageError::io("making", parent))?;
    write::folder(tree, time, root.path())?;
    Ok(root)
}
