;; The pixels of a canvas, as the compositor would hand them out: B, G, R, A, the colours multiplied by A, are laid over one
;; colour, as Skia does, and become planes of Y, Cb and Cr (I420, limited range, the matrix of BT.601), rounded as libyuv
;; does (libyuv/source/row_common.cc, ARGBToYRow and ARGBToUVRow).
;; convert.wasm is made of this: python -c "import wasmtime, sys; sys.stdout.buffer.write(wasmtime.wat2wasm(open(0).read()))"
(module
  (memory (export "memory") 1)

  ;; Y of four pixels: their blues and reds, and their greens, as pairs of 16 bits; greens have nothing beside them.
  (func $luma (param $blue_red v128) (param $green v128) (result v128)
    (i32x4.shr_u
      (i32x4.add
        (i32x4.add
          (i32x4.dot_i16x8_s (local.get $blue_red) (v128.const i16x8 25 66 25 66 25 66 25 66))
          (i32x4.dot_i16x8_s (local.get $green) (v128.const i16x8 129 0 129 0 129 0 129 0)))
        (v128.const i32x4 0x1080 0x1080 0x1080 0x1080))
      (i32.const 8)))

  ;; Of eight values, two by two in 32 bits: the mean of each two neighbours' sums, which are of two pixels each.
  (func $mean (param $left v128) (param $right v128) (result v128)
    (i16x8.shr_u
      (i16x8.add
        (i16x8.add
          (i8x16.shuffle 0 1 2 3 8 9 10 11 16 17 18 19 24 25 26 27 (local.get $left) (local.get $right))
          (i8x16.shuffle 4 5 6 7 12 13 14 15 20 21 22 23 28 29 30 31 (local.get $left) (local.get $right)))
        (v128.const i16x8 2 2 2 2 2 2 2 2))
      (i32.const 2)))

  ;; Cb or Cr of four places, by the weights of blue and red, and of green.
  (func $chroma (param $blue_red v128) (param $green v128) (param $weights v128) (param $weight v128) (result v128)
    (i32x4.shr_u
      (i32x4.add
        (i32x4.add
          (i32x4.dot_i16x8_s (local.get $blue_red) (local.get $weights))
          (i32x4.dot_i16x8_s (local.get $green) (local.get $weight)))
        (v128.const i32x4 0x8000 0x8000 0x8000 0x8000))
      (i32.const 8)))

  (func $blue_red (param $pixels v128) (result v128)
    (v128.and (local.get $pixels) (v128.const i32x4 0xff00ff 0xff00ff 0xff00ff 0xff00ff)))

  (func $green (param $pixels v128) (result v128)
    (v128.and (i32x4.shr_u (local.get $pixels) (i32.const 8)) (v128.const i32x4 0xff 0xff 0xff 0xff)))

  ;; Whether some pixel is not opaque.
  (func $is_clear (param $pixels v128) (result i32)
    (v128.any_true (v128.andnot (v128.const i32x4 0xff000000 0xff000000 0xff000000 0xff000000) (local.get $pixels))))

  ;; How the colour under the pixels is mixed in. In the compositor, which has it in another layer: times 256 - A, by 256
  ;; (skia/src/core/SkColorData.h, SkPMSrcOver). In a layer's tiles: times 255 - A, by 255, rounded.
  (global $most (mut v128) (v128.const i32x4 0 0 0 0))
  (global $half (mut v128) (v128.const i32x4 0 0 0 0))
  (global $carry (mut v128) (v128.const i32x4 0 0 0 0))
  (func $mix_as_layers
    (global.set $most (v128.const i32x4 256 256 256 256))
    (global.set $half (v128.const i32x4 0 0 0 0))
    (global.set $carry (v128.const i32x4 0 0 0 0)))
  (func $mix_as_tiles
    (global.set $most (v128.const i32x4 255 255 255 255))
    (global.set $half (v128.const i16x8 128 128 128 128 128 128 128 128))
    (global.set $carry (v128.const i32x4 -1 -1 -1 -1)))

  ;; How much is seen through each of four pixels, in 16 bits twice.
  (func $clearness (param $pixels v128) (result v128)
    (local $clear v128)
    (local.set $clear (i32x4.sub (global.get $most) (i32x4.shr_u (local.get $pixels) (i32.const 24))))
    (v128.or (local.get $clear) (i32x4.shl (local.get $clear) (i32.const 16))))

  ;; Values of 16 bits over those of the colour under them.
  (func $over (param $values v128) (param $clearness v128) (param $under v128) (result v128)
    (local $share v128)
    (local.set $share
      (i16x8.add (i16x8.mul (local.get $under) (local.get $clearness)) (global.get $half)))
    (i16x8.add (local.get $values)
      (i16x8.shr_u
        (i16x8.add (local.get $share)
          (v128.and (i16x8.shr_u (local.get $share) (i32.const 8)) (global.get $carry)))
        (i32.const 8))))

  ;; `width` is even and at least 8, `height` even, `under` 0xRRGGBB, with bit 24 set if it is in the same layer. Bit 0 of the
  ;; result: `out` is not what it was before. Bit 1: some pixel is not opaque.
  (func (export "convert")
    (param $in i32) (param $out i32) (param $width i32) (param $height i32) (param $under i32) (result i32)
    (local $x i32) (local $row i32) (local $cb i32) (local $cr i32) (local $above i32) (local $below i32)
    (local $upper i32) (local $lower i32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local $ab v128) (local $ag v128) (local $bb v128) (local $bg v128)
    (local $cbr v128) (local $cg v128) (local $dbr v128) (local $dg v128)
    (local $y v128) (local $colours v128) (local $greens v128) (local $uv v128)
    (local $changed v128) (local $opaque v128) (local $clear v128) (local $here v128)
    (local $under_blue_red v128) (local $under_green v128)
    (if (i32.shr_u (local.get $under) (i32.const 24)) (then (call $mix_as_tiles)) (else (call $mix_as_layers)))
    (local.set $under_blue_red (call $blue_red (i32x4.splat (local.get $under))))
    (local.set $under_green (call $green (i32x4.splat (local.get $under))))
    (local.set $opaque (v128.const i32x4 -1 -1 -1 -1))
    (local.set $upper (local.get $out))
    (local.set $cb (i32.add (local.get $out) (i32.mul (local.get $width) (local.get $height))))
    (local.set $cr
      (i32.add (local.get $cb) (i32.shr_u (i32.mul (local.get $width) (local.get $height)) (i32.const 2))))
    (local.set $above (local.get $in))
    (loop $rows
      (local.set $lower (i32.add (local.get $upper) (local.get $width)))
      (local.set $below (i32.add (local.get $above) (i32.shl (local.get $width) (i32.const 2))))
      (local.set $x (i32.const 0))
      (loop $columns
        ;; Eight pixels of two rows: a and b above, c and d below. The last eight of a row may be done twice in part.
        (if (i32.gt_u (local.get $x) (i32.sub (local.get $width) (i32.const 8)))
          (then (local.set $x (i32.sub (local.get $width) (i32.const 8)))))
        (local.set $row (i32.add (local.get $above) (i32.shl (local.get $x) (i32.const 2))))
        (local.set $a (v128.load (local.get $row)))
        (local.set $b (v128.load offset=16 (local.get $row)))
        (local.set $row (i32.add (local.get $below) (i32.shl (local.get $x) (i32.const 2))))
        (local.set $c (v128.load (local.get $row)))
        (local.set $d (v128.load offset=16 (local.get $row)))
        (local.set $here
          (v128.and (v128.and (local.get $a) (local.get $b)) (v128.and (local.get $c) (local.get $d))))
        (local.set $opaque (v128.and (local.get $opaque) (local.get $here)))
        (local.set $ab (call $blue_red (local.get $a)))
        (local.set $ag (call $green (local.get $a)))
        (local.set $bb (call $blue_red (local.get $b)))
        (local.set $bg (call $green (local.get $b)))
        (local.set $cbr (call $blue_red (local.get $c)))
        (local.set $cg (call $green (local.get $c)))
        (local.set $dbr (call $blue_red (local.get $d)))
        (local.set $dg (call $green (local.get $d)))
        (if (call $is_clear (local.get $here))
          (then
            (local.set $clear (call $clearness (local.get $a)))
            (local.set $ab (call $over (local.get $ab) (local.get $clear) (local.get $under_blue_red)))
            (local.set $ag (call $over (local.get $ag) (local.get $clear) (local.get $under_green)))
            (local.set $clear (call $clearness (local.get $b)))
            (local.set $bb (call $over (local.get $bb) (local.get $clear) (local.get $under_blue_red)))
            (local.set $bg (call $over (local.get $bg) (local.get $clear) (local.get $under_green)))
            (local.set $clear (call $clearness (local.get $c)))
            (local.set $cbr (call $over (local.get $cbr) (local.get $clear) (local.get $under_blue_red)))
            (local.set $cg (call $over (local.get $cg) (local.get $clear) (local.get $under_green)))
            (local.set $clear (call $clearness (local.get $d)))
            (local.set $dbr (call $over (local.get $dbr) (local.get $clear) (local.get $under_blue_red)))
            (local.set $dg (call $over (local.get $dg) (local.get $clear) (local.get $under_green)))))
        ;; Eight of Y above, eight below.
        (local.set $y
          (i8x16.narrow_i16x8_u
            (i16x8.narrow_i32x4_s
              (call $luma (local.get $ab) (local.get $ag)) (call $luma (local.get $bb) (local.get $bg)))
            (i16x8.narrow_i32x4_s
              (call $luma (local.get $cbr) (local.get $cg)) (call $luma (local.get $dbr) (local.get $dg)))))
        (local.set $row (i32.add (local.get $upper) (local.get $x)))
        (local.set $changed
          (v128.or (local.get $changed)
            (v128.xor (local.get $y)
              (v128.load64_lane 1 (i32.add (local.get $lower) (local.get $x)) (v128.load64_zero (local.get $row))))))
        (v128.store64_lane 0 (local.get $row) (local.get $y))
        (v128.store64_lane 1 (i32.add (local.get $lower) (local.get $x)) (local.get $y))
        ;; Four of Cb, four of Cr.
        (local.set $colours
          (call $mean
            (i16x8.add (local.get $ab) (local.get $cbr)) (i16x8.add (local.get $bb) (local.get $dbr))))
        (local.set $greens
          (call $mean (i16x8.add (local.get $ag) (local.get $cg)) (i16x8.add (local.get $bg) (local.get $dg))))
        (local.set $uv
          (i8x16.narrow_i16x8_u
            (i16x8.narrow_i32x4_s
              (call $chroma (local.get $colours) (local.get $greens)
                (v128.const i16x8 112 -38 112 -38 112 -38 112 -38) (v128.const i16x8 -74 0 -74 0 -74 0 -74 0))
              (call $chroma (local.get $colours) (local.get $greens)
                (v128.const i16x8 -18 112 -18 112 -18 112 -18 112) (v128.const i16x8 -94 0 -94 0 -94 0 -94 0)))
            (v128.const i32x4 0 0 0 0)))
        (local.set $row (i32.shr_u (local.get $x) (i32.const 1)))
        (local.set $changed
          (v128.or (local.get $changed)
            (v128.xor (local.get $uv)
              (v128.load32_lane 1 (i32.add (local.get $cr) (local.get $row))
                (v128.load32_zero (i32.add (local.get $cb) (local.get $row)))))))
        (v128.store32_lane 0 (i32.add (local.get $cb) (local.get $row)) (local.get $uv))
        (v128.store32_lane 1 (i32.add (local.get $cr) (local.get $row)) (local.get $uv))
        (br_if $columns (i32.lt_u (local.tee $x (i32.add (local.get $x) (i32.const 8))) (local.get $width))))
      (local.set $above (i32.add (local.get $below) (i32.shl (local.get $width) (i32.const 2))))
      (local.set $upper (i32.add (local.get $lower) (local.get $width)))
      (local.set $cb (i32.add (local.get $cb) (i32.shr_u (local.get $width) (i32.const 1))))
      (local.set $cr (i32.add (local.get $cr) (i32.shr_u (local.get $width) (i32.const 1))))
      (br_if $rows (i32.gt_u (local.tee $height (i32.sub (local.get $height) (i32.const 2))) (i32.const 0))))
    (i32.or
      (v128.any_true (local.get $changed))
      (i32.shl (call $is_clear (local.get $opaque)) (i32.const 1)))))
