//! The foreign APIs beside the native one: every prefix is served on every listening port.

use std::sync::Arc;

use axum::Router;
use impuls_control::Control;
use impuls_dispatch::Dispatch;

/// The native router with the routes of every dialect.
pub(crate) fn with_dialects(native: Router, control: &Arc<Control>, dispatch: &Arc<Dispatch>) -> Router {
    let tangle = impuls_dialect_tangle::State::new(control.clone(), dispatch.clone());
    let gofaas = impuls_dialect_gofaas::State::new(control.clone(), dispatch.clone());
    let nqrust = impuls_dialect_nqrust::State::new(control.clone(), dispatch.clone());
    native
        .merge(impuls_dialect_tangle::router(tangle))
        .merge(impuls_dialect_nqrust::router(nqrust))
        .merge(impuls_dialect_gofaas::router(gofaas))
}
