//! The program that tests of this crate execute as the helper: nothing else than `init`.

fn main() {
    impuls_embed::init();
}
