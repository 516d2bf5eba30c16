//! Writes the inputs that fuzzing begins with: `seeds TO FROM...`, where `FROM` are data folders of stores. Each goes to
//! `TO/<target>/`, under the hash of its bytes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let to = arguments.next().ok_or("seeds TO FROM...")?;
    for from in arguments {
        for (target, input) in pharos_fuzz::seeds(&from)? {
            let mut hasher = DefaultHasher::new();
            input.hash(&mut hasher);
            std::fs::create_dir_all(to.join(target))?;
            std::fs::write(to.join(target).join(format!("{:016x}", hasher.finish())), input)?;
        }
    }
    Ok(())
}
