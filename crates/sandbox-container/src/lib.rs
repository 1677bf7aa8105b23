//! Sandboxes from containers that any OCI runtime makes: the `container` driver.
//!
//! [`ContainerDriver`] is what the server holds. [`oci`] finds the runtime and says whether it is safe to use; `bundle`
//! describes a container to it; `ground` is the mount namespace in which the roots of the languages are put together and
//! the runtime is executed; `init` is process 1 of every container, the same program as the server.

mod bundle;
mod cgroup;
pub mod config;
pub mod driver;
mod ground;
mod init;
pub mod oci;
mod orphans;
mod root;
mod sandbox;
mod seccomp;
mod strays;
mod sys;

pub use config::Config;
pub use driver::ContainerDriver;
pub use init::init_main;
pub use oci::{OciRuntime, Safety};
