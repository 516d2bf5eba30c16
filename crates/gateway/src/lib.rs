//! Who are you, which tenant, how much.
