//! What guests are made of: root file systems and kernels, each kept by the digest of its bytes.
//!
//! ```text
//!   debian (mmdebstrap) ─┐
//!                        ├─> tree ─ furnish (agent, shims, /etc) ─> pack (squashfs, erofs, ext4, oci) ─> store
//!   oci (tarball) ───────┘                                                         kernel (make) ───────┘
//! ```
//!
//! [`build`] has the way of an image, [`kernel`] that of a kernel, [`store`] keeps both. A [`tree`] lives in memory:
//! foreign archives become one and nothing else, so nothing in them can lead out of it, and only a whole tree is ever
//! written into a folder, where a program reads nothing else and for functions. Nothing here starts a
//! guest, and nothing here reads the environment or the clock: both are handed in.

pub mod agent;
pub mod architecture;
pub mod build;
pub mod debian;
pub mod error;
mod furnish;
pub mod kernel;
pub mod manifest;
mod oci;
mod pack;
pub mod recipe;
mod staged;
pub mod store;
pub mod tool;
pub mod tree;
mod unpack;

pub use architecture::Architecture;
pub use build::{BuildRequest, Origin};
pub use debian::Sources;
pub use error::ImageError;
pub use kernel::KernelRequest;
pub use manifest::{Format, ImageManifest, KernelManifest};
pub use recipe::Recipe;
pub use store::{Entry, ImageStore};
pub use tool::Steps;
pub use unpack::unpack;
