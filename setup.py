"""Packaging of transformers-crossvit. The three source folders become one package, `crossvit`: see `package_dir`."""

import re
from pathlib import Path

from setuptools import setup


ROOT = Path(__file__).parent
# The file is read and not imported, because a build has neither torch nor transformers.
PACKAGE = (ROOT / "modeling_crossvit" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "(.+)"$', PACKAGE, re.M)[1]
REPOSITORY = "https://github.com/transformers-crossvit/transformers-crossvit"

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
runtimes = ["onnx", "onnxscript", "onnxruntime", "openvino", "nncf"]
export = [*runtimes, "executorch", "torchao"]
explain = [*vision, "captum", "matplotlib"]
# What docs/using_a_model.md runs: evaluation, batch jobs, search, explanations and the demo.
use = [*training, *explain, "ray[data]", "faiss-cpu", "gradio"]
# What `make test` needs with every supported PyTorch.
test = [
    *convert,
    *training,
    *runtimes,
    *explain,
    "timm==1.0.31",
    "peft",
    "bitsandbytes",
    "pillow-heif",
    "elpv-dataset",
    "mlxtend",
    "pytest>=9.2",  # finds `-p deprecations` through `pythonpath`, which old releases do not
    "pytest-xdist",
    "parameterized",
    "psutil",
    "ruff==0.17.6",
    "setuptools>=77",
    "starlette",
    "uvicorn",
]
dev = [
    *test,
    *export,
    *use,
    "torchcodec>=0.16",  # transformers reads image files with it instead of torchvision, whose decoder goes away
    "trackio",
    "pre-commit",
    "selenium",
    "mypy==2.4.1",
    "transformers-mlinter==0.1.5",
]

setup(
    name="transformers-crossvit",
    version=VERSION,
    description="CrossViT for Hugging Face Transformers",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The transformers-crossvit authors",
    project_urls={
        "Homepage": REPOSITORY,
        "Documentation": f"{REPOSITORY}/tree/main/docs",
        "Source": REPOSITORY,
        "Issues": f"{REPOSITORY}/issues",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
    },
    keywords=[
        "crossvit",
        "vision transformer",
        "image classification",
        "transformers",
        "hugging face",
        "pytorch",
        "computer vision",
        "deep learning",
    ],
    license_expression="Apache-2.0",
    # The folders have the names that explain them in the checkout; installed under these names two of them would collide with
    # modules of the user's own.
    package_dir={
        "crossvit": "modeling_crossvit",
        "crossvit.data": "modeling_crossvit/data",
        "crossvit.configuration": "configuration",
        "crossvit.image_processing": "image_processing",
    },
    # An editable installation is a folder of links (build/), which editors and type checkers can follow; the default is a hook in the
    # import system, which they cannot. Files that are added later get their link from `make`, or by installing again.
    options={"editable_wheel": {"mode": "strict"}},
    packages=[
        *("crossvit", "crossvit.configuration", "crossvit.image_processing"),
        *("crossvit.data", "crossvit.inference", "crossvit.weights"),
    ],
    package_data={"crossvit": ["py.typed"], "crossvit.configuration": ["imagenet_classes.txt"]},
    python_requires=">=3.10",
    # As transformers. `torch.compile` needs PyTorch 2.7: 2.6 cannot compile any model of transformers 5.
    install_requires=["transformers>=5.23,<6", "torch>=2.6", "pillow", "safetensors", "numpy"],
    extras_require={
        "vision": vision,
        "convert": convert,
        "training": training,
        "export": export,
        "explain": explain,
        "use": use,
        "test": test,
        "dev": dev,
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
