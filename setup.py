"""Packaging of transformers-crossvit. The three source folders become one package, `crossvit`: see `package_dir`."""

import re
from pathlib import Path

from setuptools import setup


ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "modeling_crossvit" / "__init__.py").read_text())[1]

vision = ["torchvision"]
training = [
    *vision,
    "accelerate>=1.1",
    "datasets",
    "evaluate",
    "scikit-learn",
    "matplotlib",
    "tensorboard",
    "timm>=1.0.16",
]
convert = [*vision, "timm>=1.0.16", "scikit-learn"]
export = ["onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "executorch", "torchao"]
dev = [
    *training,
    *convert,
    *export,
    "timm==1.0.31",
    "peft",
    "torchcodec>=0.16",  # transformers reads image files with it instead of torchvision, whose decoder goes away
    "trackio",
    "bitsandbytes",
    "pytest>=9.2",  # finds `-p deprecations` through `pythonpath`, which old releases do not
    "parameterized",
    "psutil",
    "ruff==0.17.6",
    "mypy==2.4.1",
    "transformers-mlinter==0.1.5",
    "setuptools>=77",
    "starlette",
    "uvicorn",
]

setup(
    name="transformers-crossvit",
    version=VERSION,
    description="CrossViT for Hugging Face Transformers",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    # The folders have the names that explain them in the checkout; installed under these names two of them would collide with
    # modules of the user's own.
    package_dir={
        "crossvit": "modeling_crossvit",
        "crossvit.configuration": "configuration",
        "crossvit.image_processing": "image_processing",
    },
    packages=["crossvit", "crossvit.configuration", "crossvit.image_processing"],
    package_data={"crossvit": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=["transformers>=5.23,<6", "torch", "pillow", "safetensors", "numpy"],
    extras_require={"vision": vision, "convert": convert, "training": training, "export": export, "dev": dev},
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
