//! OCI images as tar archives: reading those that `docker save`, `skopeo copy … oci-archive:` and their like write, and
//! writing one that `docker load` and `skopeo` take.

pub(crate) mod read;
pub(crate) mod write;
