//! Which images the process sandbox stands for: those whose programs the machine itself has.

use impuls_dispatch::image::{LOCAL_IMAGES, runs_locally};

use crate::errors::Refusal;

/// What a request without an image means, as in the original.
pub(crate) const DEFAULT: &str = "alpine:latest";
/// Refuses images that the machine's own programs cannot stand for.
pub(crate) fn check(image: &str) -> Result<(), Refusal> {
    if runs_locally(image) {
        return Ok(());
    }
    let shown: String = image.chars().take(200).collect();
    Err(Refusal::missing(format!(
        "image {shown:?} cannot be run: this server has no container engine; the images {} run with the machine's own programs",
        LOCAL_IMAGES.map(|name| format!("{name}:*")).join(", ")
    )))
}

/// Refuses isolation technologies that are stronger than what there is; nothing is weakened silently.
pub(crate) fn check_runtime(runtime: Option<&str>) -> Result<(), Refusal> {
    match runtime.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "auto" | "docker") => Ok(()),
        Some("firecracker") => Err(Refusal::missing(
            "runtime \"firecracker\" cannot be had: this server has no microVM driver; use \"auto\"",
        )),
        Some(other) => Err(Refusal::invalid(
            "runtime",
            format_args!("{other:?} is unknown; those known are docker, firecracker and auto"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_images_are_refused_with_what_is_missing() {
        let refusal = check("rust:1.80").unwrap_err();
        assert!(refusal.message().contains("no container engine"), "{}", refusal.message());
        assert!(check("alpine:latest").is_ok());
    }

    #[test]
    fn a_stronger_isolation_is_never_replaced_silently() {
        assert!(check_runtime(Some("Firecracker")).is_err());
        assert!(check_runtime(Some("docker")).is_ok());
        assert!(check_runtime(Some("wasm")).is_err());
    }
}
