# 64-bit ARM (ARMv8-A) on Debian and its relatives:
#   cmake -S . -B build-arm64 -DCMAKE_TOOLCHAIN_FILE=cmake/toolchain-arm64.cmake \
#     -DDSTREAM_BUILD_HUB=OFF -DDSTREAM_BUILD_TOOLS=OFF [-DCMAKE_SYSROOT=FOLDER]
# with the package gcc-aarch64-linux-gnu; see toolchain-debian.cmake.
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(triplet aarch64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/toolchain-debian.cmake)
