//! Where tensors live: the CPU always, GPUs by cargo feature.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// A kind of device. Only the first one of its kind on the machine is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Processor {
    /// This program's own kernels.
    #[default]
    Cpu,
    /// Any GPU that the system's graphics interface reaches, with shaders in WGSL.
    Wgpu,
    /// A GPU by Vulkan, with SPIR-V.
    Vulkan,
    /// Nvidia's.
    Cuda,
    /// Apple's.
    Metal,
}

impl Processor {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Wgpu, Self::Vulkan, Self::Cuda, Self::Metal];

    /// As on the command line; for a GPU also the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }

    /// The device, after a computation on it has succeeded.
    ///
    /// # Errors
    /// The program was built without it, or there is none, or it does not compute.
    pub fn open(self) -> Result<Device, TrainError> {
        let fail = |reason: String| TrainError::Device { name: self.name(), reason };
        let unbuilt =
            || fail(format!("this program was built without it; build with --features {}", self.name()));
        if self == Self::Cpu {
            return Ok(Device::flex());
        }
        // Burn reports a device that cannot be opened by a panic, in whichever thread.
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let probe = panic::catch_unwind(AssertUnwindSafe(|| {
            let device = self.device()?;
            let sum = Tensor::<1>::from_floats([1.5, 2.5], &device).sum();
            Some((device, sum.into_scalar::<f32>()))
        }));
        panic::set_hook(hook);
        match probe {
            Ok(Some((device, 4.0))) => Ok(device),
            Ok(Some((_, sum))) => Err(fail(format!("it says that 1.5 + 2.5 is {sum}"))),
            Ok(None) => Err(unbuilt()),
            Err(_) => Err(fail("there is none, or its driver does not work".into())),
        }
    }

    fn device(self) -> Option<Device> {
        #[cfg(feature = "wgpu")]
        use burn::tensor::DeviceKind::DefaultDevice;
        match self {
            Self::Cpu => Some(Device::flex()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Some(Device::wgpu(DefaultDevice)),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Some(Device::vulkan(DefaultDevice)),
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(Device::cuda(0)),
            #[cfg(feature = "metal")]
            Self::Metal => Some(Device::metal(DefaultDevice)),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Processor {
    type Err = TrainError;

    fn from_str(name: &str) -> Result<Self, TrainError> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| {
            TrainError::config("device", format!("`{name}` is unknown; known are {}", known()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_works_and_what_was_not_built_says_so() {
        assert!(Processor::Cpu.open().is_ok());
        for processor in Processor::ALL {
            assert_eq!(processor.name().parse::<Processor>().unwrap(), processor);
            if processor != Processor::Cpu && processor.device().is_none() {
                let message = processor.open().unwrap_err().to_string();
                assert!(message.contains(processor.name()) && message.contains("--features"), "{message}");
            }
        }
        assert!("tpu".parse::<Processor>().unwrap_err().to_string().contains("vulkan"));
    }
}
