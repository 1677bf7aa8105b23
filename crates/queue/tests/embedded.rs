//! The embedded queue keeps to the seam.

use std::sync::Arc;

use impuls_queue::EmbeddedQueue;

async fn open() -> Arc<EmbeddedQueue> {
    Arc::default()
}

impuls_queue::invocation_queue_conformance!(open);
