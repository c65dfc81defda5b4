//! Maps with the types of what is in them.

use std::marker::PhantomData;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::program::{LoadError, Loaded};

/// An array of one kind of structure.
pub struct Array<T> {
    map: MapHandle,
    kind: PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy> Array<T> {
    pub fn of(loaded: &Loaded, name: &'static str) -> Result<Array<T>, LoadError> {
        let map = loaded.map(name)?;
        match map.value_size() as usize == size_of::<T>() {
            true => Ok(Array { map, kind: PhantomData }),
            false => Err(LoadError::Missing(name)),
        }
    }

    pub fn length(&self) -> u32 {
        self.map.max_entries()
    }

    pub fn write(&self, index: u32, value: &T) -> Result<(), LoadError> {
        Ok(self.map.update(index.as_bytes(), value.as_bytes(), MapFlags::ANY)?)
    }

    pub fn write_many(&self, from: u32, values: &[T]) -> Result<(), LoadError> {
        if values.is_empty() {
            return Ok(());
        }
        let keys: Vec<u32> = (from..from + values.len() as u32).collect();
        let count = values.len() as u32;
        Ok(self.map.update_batch(keys.as_bytes(), values.as_bytes(), count, MapFlags::ANY, MapFlags::ANY)?)
    }

    pub fn read(&self, index: u32) -> T {
        let mut value = T::new_zeroed();
        let mut bytes = vec![0; size_of::<T>()];
        if matches!(self.map.lookup_into(index.as_bytes(), &mut bytes, MapFlags::ANY), Ok(true)) {
            value = T::read_from_bytes(&bytes).unwrap_or(value);
        }
        value
    }

    /// Every element, in order; in portions, so that a large table costs little memory.
    pub fn each(&self, mut visit: impl FnMut(u32, &T)) -> Result<(), LoadError> {
        self.each_until(|index, value| {
            visit(index, value);
            true
        })
    }

    /// The same, until the visitor has seen enough.
    pub fn each_until(&self, mut visit: impl FnMut(u32, &T) -> bool) -> Result<(), LoadError> {
        for item in self.map.lookup_batch(512, MapFlags::ANY, MapFlags::ANY)? {
            let (key, value) = item;
            let (Ok(index), Ok(value)) = (u32::read_from_bytes(&key), T::read_from_bytes(&value)) else {
                continue;
            };
            if !visit(index, &value) {
                break;
            }
        }
        Ok(())
    }
}

/// The same, with a value for each CPU.
pub struct PerCpu<T> {
    map: MapHandle,
    kind: PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> PerCpu<T> {
    pub fn of(loaded: &Loaded, name: &'static str) -> Result<PerCpu<T>, LoadError> {
        Ok(PerCpu { map: loaded.map(name)?, kind: PhantomData })
    }

    pub fn read(&self, index: u32) -> Vec<T> {
        let values =
            self.map.lookup_percpu(index.as_bytes(), MapFlags::ANY).ok().flatten().unwrap_or_default();
        values.iter().filter_map(|v| T::read_from_bytes(v.get(..size_of::<T>())?).ok()).collect()
    }

    pub fn clear(&self, index: u32) -> Result<(), LoadError> {
        let cpus = self.read(index).len();
        let zero = vec![0u8; size_of::<T>().next_multiple_of(8)];
        let zeros = vec![zero; cpus];
        Ok(self.map.update_percpu(index.as_bytes(), &zeros, MapFlags::ANY)?)
    }
}

/// A hash map.
pub struct Hash<K, V> {
    map: MapHandle,
    kind: PhantomData<(K, V)>,
}

impl<K, V> Hash<K, V>
where
    K: IntoBytes + Immutable + FromBytes,
    V: IntoBytes + Immutable,
{
    pub fn of(loaded: &Loaded, name: &'static str) -> Result<Hash<K, V>, LoadError> {
        Ok(Hash { map: loaded.map(name)?, kind: PhantomData })
    }

    pub fn write(&self, key: &K, value: &V) -> Result<(), LoadError> {
        Ok(self.map.update(key.as_bytes(), value.as_bytes(), MapFlags::ANY)?)
    }

    pub fn remove(&self, key: &K) {
        let _ = self.map.delete(key.as_bytes());
    }

    pub fn keys(&self) -> Vec<K> {
        self.map.keys().filter_map(|k| K::read_from_bytes(&k).ok()).collect()
    }
}
