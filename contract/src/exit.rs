//! The codes that programs of a run end with, for whoever started them.

/// Exit code of a rank that failed in a way that another start may change, for example because a
/// file could not be read: restart at the next epoch.
pub const EXIT_FAILED: i32 = 1;
/// Exit code of a rank for a configuration that will never work: do not restart its island.
pub const EXIT_CONFIG: i32 = 2;
/// Exit code of a rank that lost a peer or the coordinator: restart at the next epoch.
pub const EXIT_LOST: i32 = 3;
/// Exit code of a rank whose device has no room for what the plan puts there: do not restart the
/// island with this plan.
pub const EXIT_MEMORY: i32 = 4;
/// Exit code of a rank whose training diverged each time that it tried a round: the same
/// computation gives the same again, so do not restart its island with these settings.
pub const EXIT_DIVERGED: i32 = 5;
