"""The accelerator contract by topic; `accel.base.Accelerator` is the sum of these modules."""
