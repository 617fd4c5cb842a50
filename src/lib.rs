//! Corelane: one binary in front of Ollama, vLLM, llama.cpp and OpenAI servers.
//!
//! Read `ARCHITECTURE.md` for the picture, then [`shard::exchange`]: a request's life from top to bottom.

pub mod api;
pub mod balance;
pub mod boot;
pub mod breaker;
pub mod budget;
pub mod cache;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod control;
pub mod explain;
pub mod guard;
pub mod health;
pub mod journal;
pub mod limit;
pub mod net;
pub mod production;
pub mod queue;
pub mod reading;
pub mod refusal;
pub mod registry;
pub mod retry;
pub mod route;
pub mod shard;
pub mod sim;
pub mod telemetry;
pub mod usage;
pub mod wire;
pub mod world;
