//! `linerate share`: a folder for the people on a LAN, over HTTPS, with a page, uploads, search and chat.
//!
//! The only part of the crate with an async runtime (tokio, axum over hyper), behind the feature `web`. Whatever a
//! request names is resolved by [`tree`], which reaches files only through the confined root; whoever asks is known
//! to [`gate`] before anything else looks at the request. What takes a filesystem's time runs on blocking threads.
//!
//! ```text
//! accept ─▶ TLS ─▶ HTTP/1.1 ─▶ guard: Host, Origin, session ─▶ handlers ─▶ tree, uploads, room, search, archive
//! serve                        http/guard                      http/*           │
//!                                                              activity ◀───────┴──▶ the owner's terminal
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | [`rights`] | what a visitor may do |
//! | [`gate`] | the link's token, the password, sessions, guesses; without clock or socket |
//! | [`path`] | paths of URLs, and names that are hidden |
//! | [`tree`] | what is shared: one folder, or a list of files and folders |
//! | [`listing`] | what is in a folder, sorted and filtered, for a page at a time |
//! | [`room`] | the chat: who is here, what was said; without clock or socket |
//! | [`notice`], [`hub`] | what changes, and telling it to all who listen |
//! | [`uploads`] | which uploads are under way, whose, how far; the quota; without clock or file |
//! | [`target`], [`folders`] | where it goes, and the folders that are made for it |
//! | [`incoming`] | the file of one: hidden until it is whole, then given a name that nothing has |
//! | [`intake`] | from a body to that file, the scan, the end |
//! | [`scan`] | the virus scan by clamd |
//! | [`scans`] | what scans said, for listings |
//! | [`activity`] | what happens, for the owner |
//! | [`search`] | finding by name |
//! | [`archive`] | folders as zip and tar |
//! | [`flow`] | from a thread that makes an answer to the connection that sends it |
//! | [`slots`], [`reading`] | how much that is costly is done at a time, by all and each |
//! | [`meter`] | whether what is sent comes fast enough to be waited for |
//! | [`state`] | what all requests share |
//! | [`http`] | requests and answers |
//! | [`sorting`] | which folder an upload goes to by its type |
//! | [`announce`] | mDNS: telling of a share, hearing of others |
//! | [`client`] | the other end: getting files from a share, putting some there |
//! | [`watching`] | changes made outside of the share, seen by inotify |
//! | [`wire`] | a plain connection that sends files by sendfile |
//! | [`serve`] | sockets, TLS, bounds on connections, the end |

pub mod activity;
pub mod announce;
pub mod archive;
pub mod client;
pub mod flow;
pub mod folders;
pub mod gate;
pub mod http;
pub mod hub;
pub mod incoming;
pub mod intake;
pub mod listing;
pub mod meter;
pub mod notice;
pub mod path;
pub mod reading;
pub mod rights;
pub mod room;
pub mod scan;
pub mod scans;
pub mod search;
pub mod serve;
pub mod slots;
pub mod sorting;
pub mod state;
pub mod target;
pub mod tree;
pub mod uploads;
pub mod watching;
pub mod wire;
