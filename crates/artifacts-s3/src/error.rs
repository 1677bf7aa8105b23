//! Why a bucket cannot be used.

/// Why a bucket cannot be used now. Says where the bucket is; has neither keys nor anything that was signed.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// What the location and the variables say cannot go together.
    #[error("{place} cannot be used like this")]
    Settings {
        /// The bucket and where it is.
        place: String,
        /// What is wrong.
        source: object_store::Error,
    },
    /// The bucket does not answer, or refuses.
    #[error("{place} cannot be used")]
    Refused {
        /// The bucket and where it is.
        place: String,
        /// What it said, or why it said nothing.
        source: object_store::Error,
    },
    /// There was an answer to every request, but all of them together took too long.
    #[error("{place} is too slow: {action} {bytes} bytes was not done within {seconds} s")]
    Slow {
        /// The bucket and where it is.
        place: String,
        /// What was being done.
        action: &'static str,
        /// How many bytes were to be moved.
        bytes: u64,
        /// After how long it was given up.
        seconds: u64,
    },
    /// An object is not what any version of this server puts.
    #[error("{place} has an object of {bytes} bytes where an artifact has at most {limit}")]
    TooLarge {
        /// The bucket and where it is.
        place: String,
        /// How many bytes it has.
        bytes: u64,
        /// How many an artifact may have.
        limit: u64,
    },
}
