//! `cordon policy check`: validates and says where and why.
