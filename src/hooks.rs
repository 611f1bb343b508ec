//! Hooks: programs run at points of the lifecycle (config.md#posix-platform-hooks).
