use super::adts::*;
use super::*;
use crate::codec::testing::{hex, torture};

fn said(asc: &str) -> Result<(u8, u32, u8, u16), CodecError> {
    let config = AacConfig::from_asc(&hex(asc))?;
    Ok((config.object_type, config.sample_rate, config.channels, config.frame_samples))
}

#[test]
fn audio_specific_configs_are_read() {
    assert_eq!(said("1210"), Ok((2, 44_100, 2, 1_024)));
    assert_eq!(said("1190"), Ok((2, 48_000, 2, 1_024)));
    assert_eq!(said("11b0"), Ok((2, 48_000, 6, 1_024)));
    assert_eq!(said("11b8"), Ok((2, 48_000, 8, 1_024)));
    assert_eq!(said("1194"), Ok((2, 48_000, 2, 960)));
    // Hierarchical SBR and PS; the extension after the core.
    assert_eq!(said("2b118800"), Ok((5, 24_000, 2, 1_024)));
    assert_eq!(said("eb098800"), Ok((29, 24_000, 1, 1_024)));
    assert_eq!(said("131056e598"), Ok((5, 24_000, 2, 1_024)));
    assert_eq!(said("130856e59d4880"), Ok((29, 24_000, 1, 1_024)));
    // SBR announced as absent.
    assert_eq!(said("119056e500"), Ok((2, 48_000, 2, 1_024)));
}

#[test]
fn lc_configurations_are_written_and_read_back() {
    for rate in [8_000, 44_100, 48_000, 12_345, (1 << 24) - 1] {
        for channels in [1, 2, 6, 8] {
            let config = AacConfig::lc(rate, channels).unwrap();
            assert_eq!((config.sample_rate, config.channels), (rate, channels));
            assert_eq!(AacConfig::from_asc(&config.to_asc()), Ok(config));
        }
    }
    assert_eq!(AacConfig::lc(48_000, 2).unwrap().to_asc()[..], hex("1190"));
    assert!(AacConfig::lc(0, 2).is_err());
    assert!(AacConfig::lc(48_000, 7).is_err());
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    for (asc, error) in [
        ("", CodecError::Truncated("AudioSpecificConfig")),
        ("12", CodecError::Truncated("AudioSpecificConfig")),
        ("1180", CodecError::Unsupported("AAC with a program configuration element")),
        ("0990", CodecError::Unsupported("an AAC object type other than LC, HE and HE v2")),
        ("1690", CodecError::Invalid { what: "sampling frequency index", value: 13 }),
        ("11c0", CodecError::Invalid { what: "AAC channel configuration", value: 8 }),
        ("1780000010", CodecError::Invalid { what: "sample rate", value: 0 }),
    ] {
        assert_eq!(said(asc), Err(error), "{asc}");
    }
    assert!(AacConfig::from_asc(&[0x11; 65]).is_err());
}

fn frame(config: &AacConfig, block: &[u8]) -> Vec<u8> {
    [&write_adts_header(config, block.len()).unwrap()[..], block].concat()
}

#[test]
fn adts_headers_are_written_and_read_back() {
    let config = AacConfig::lc(44_100, 2).unwrap();
    let header = AdtsHeader::parse(&frame(&config, &[1, 2, 3])).unwrap();
    assert_eq!((header.frame_bytes, header.header_bytes, header.blocks), (10, 7, 1));
    assert_eq!(AacConfig::from_adts(&header), Ok(config.clone()));
    // ffmpeg's own.
    let header = AdtsHeader::parse(&hex("fff150802b3ffc")).unwrap();
    assert_eq!((header.sample_rate, header.channel_configuration), (44_100, 2));
    assert_eq!(header.frame_bytes, 345);
    assert!(write_adts_header(&config, FRAME_BYTES_MAX).is_err());
}

#[test]
fn frames_are_found_behind_garbage_and_a_cut_one_is_left_over() {
    let config = AacConfig::lc(48_000, 2).unwrap();
    let (one, two) = (frame(&config, &[1; 20]), frame(&config, &[2; 30]));
    // The garbage holds a false sync word.
    let garbage = hex("00ff fff1 4c80 0140 1ffc 22");
    let data = [&one[..], &garbage, &two, &one, &two[..9]].concat();
    let mut frames = AdtsFrames::new(&data);
    let blocks: Vec<Vec<u8>> = frames.by_ref().map(|frame| frame.unwrap().data.to_vec()).collect();
    assert_eq!(blocks, [vec![1; 20], vec![2; 30], vec![1; 20]]);
    assert_eq!(frames.skipped(), garbage.len());
    assert_eq!(frames.remainder(), &two[..9]);
}

#[test]
fn several_blocks_under_one_header_are_told_apart() {
    // Two blocks of 3 and 2 bytes, each with its CRC; the second begins at 5.
    let body = hex("0005 aaaa 010203 bbbb 0405 cccc");
    let length = HEADER_BYTES + body.len();
    let mut data = write_adts_header(&AacConfig::lc(48_000, 2).unwrap(), body.len()).unwrap();
    data[1] &= 0xfe;
    data[6] |= 1;
    let whole = [&data[..], &body].concat();
    let header = AdtsHeader::parse(&whole).unwrap();
    assert_eq!((header.frame_bytes, header.header_bytes, header.blocks), (length, 11, 2));
    let blocks: Vec<&[u8]> = AdtsFrames::new(&whole).map(|frame| frame.unwrap().data).collect();
    assert_eq!(blocks, [&[1, 2, 3][..], &[4, 5]]);
    data[1] |= 1;
    let without = [&data[..], &body].concat();
    let only: Vec<_> = AdtsFrames::new(&without).collect();
    assert_eq!(only, [Err(CodecError::Unsupported("ADTS with several blocks and no CRC"))]);
}

#[test]
fn hostile_bytes_never_panic() {
    for asc in ["1210", "2b118800", "130856e59d4880"] {
        torture(&hex(asc), |data| drop(AacConfig::from_asc(data)));
    }
    let config = AacConfig::lc(48_000, 2).unwrap();
    let data = [frame(&config, &[1; 9]), frame(&config, &[2; 5])].concat();
    torture(&data, |data| {
        let mut frames = AdtsFrames::new(data);
        let blocks: usize = frames.by_ref().flatten().map(|frame| frame.data.len()).sum();
        assert!(blocks + frames.skipped() + frames.remainder().len() <= data.len());
    });
}
