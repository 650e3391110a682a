"""portrait"""
