"""Measurements of asyncrender through its public interface. Run: python -m benchmarks"""
